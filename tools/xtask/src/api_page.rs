//! The description of the API as a page for people.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, ensure};
use custody_local_stack::{progress, tools::Python, workspace};

/// Renders docs/openapi.yaml. Returns the path of the page, which is not part of the repository.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    let python = Python::ready()?;
    let (openapi, page) =
        (workspace::root().join("docs/openapi.yaml"), workspace::root().join("docs/api.html"));
    let mut render = python.command("python");
    render.arg(workspace::python_files().join("api_page.py")).arg(&openapi).arg(&page);
    progress::run_visibly(&mut render)?;
    Ok(page)
}

/// Checks that the page can be built and has every operation.
pub(crate) fn check() -> anyhow::Result<()> {
    let page = fs::read_to_string(build()?).context("read the page")?;
    let openapi =
        fs::read_to_string(workspace::root().join("docs/openapi.yaml")).context("read the description")?;
    let operations = openapi.lines().filter_map(|line| line.trim().strip_prefix("operationId: "));
    for operation in operations {
        ensure!(page.contains(&format!("\"operationId\": \"{operation}\"")), "the page lacks {operation}");
    }
    Ok(())
}
