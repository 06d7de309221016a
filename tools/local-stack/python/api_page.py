"""Renders docs/openapi.yaml for people, with Redoc, into one HTML file that loads nothing from elsewhere.

Usage: api_page.py OPENAPI HTML. Redoc comes from npm's registry, in a pinned version with its digest. Exit status 3: the
registry does not answer.
"""

import base64
import hashlib
import http.client
import io
import json
import sys
import tarfile
import urllib.request

import yaml

# The last version before 3.0, with which Redoc began to send data about its use.
REDOC = "https://registry.npmjs.org/redoc/-/redoc-2.5.4.tgz"
INTEGRITY = "sha512-M6jWhG1qoBnH6TFmzJnstyCZ87HmOY/UzDm78mHiYihEdlV/YcS9ogOo1NlElnJMeLsyxHFe2yFc4sNjHTrABQ=="
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>body {{ margin: 0; }}</style>
</head>
<body>
<div id="api"></div>
<script>{redoc}</script>
<script>Redoc.init({document}, {{disableSearch: true, nativeScrollbars: true, theme: {{typography: {{fontFamily: "sans-serif", headings: {{fontFamily: "sans-serif"}}}}}}}}, document.getElementById("api"));</script>
</body>
</html>
"""


def redoc():
    try:
        with urllib.request.urlopen(REDOC, timeout=60) as answer:
            package = answer.read()
    except (OSError, http.client.HTTPException) as error:
        print(f"get {REDOC}: {error}", file=sys.stderr)
        sys.exit(3)
    digest = "sha512-" + base64.b64encode(hashlib.sha512(package).digest()).decode()
    if digest != INTEGRITY:
        sys.exit(f"{REDOC} has the digest {digest}, and {INTEGRITY} is expected")
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        return archive.extractfile("package/bundles/redoc.standalone.js").read().decode()


def in_script(text):
    """Escapes what would end a script element. The escaped text means the same in JavaScript and JSON strings."""
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def main(openapi, html):
    with open(openapi, encoding="utf-8") as file:
        document = yaml.safe_load(file)
    page = PAGE.format(title=document["info"]["title"], redoc=in_script(redoc()), document=in_script(json.dumps(document, default=str)))
    with open(html, "w", encoding="utf-8") as file:
        file.write(page)


if __name__ == "__main__":
    main(*sys.argv[1:])
