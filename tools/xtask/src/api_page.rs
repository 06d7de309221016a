//! The description of the API as a page for people.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, ensure};
use custody_local_stack::{tools::Python, workspace};

/// The exit status of the renderer if npm's registry does not answer.
const NO_REGISTRY: i32 = 3;

/// Renders docs/openapi.yaml. Returns the path of the page, which is not part of the repository.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    let (page, status) = render()?;
    ensure!(status == Some(0), "docs/openapi.yaml could not be rendered");
    Ok(page)
}

/// Returns the path of the page and the exit status of the renderer.
fn render() -> anyhow::Result<(PathBuf, Option<i32>)> {
    let python = Python::ready()?;
    let (openapi, page) =
        (workspace::root().join("docs/openapi.yaml"), workspace::root().join("docs/api.html"));
    let mut render = python.command("python");
    render.arg(workspace::python_files().join("api_page.py")).arg(&openapi).arg(&page);
    let status = render.status().context("render docs/openapi.yaml")?;
    Ok((page, status.code()))
}

/// Checks that the page can be built and has every operation.
pub(crate) fn check() -> anyhow::Result<()> {
    let (page, status) = render()?;
    if status == Some(NO_REGISTRY) {
        println!("SKIPPED: npm's registry does not answer, so the page was not built");
        return Ok(());
    }
    ensure!(status == Some(0), "docs/openapi.yaml could not be rendered");
    let page = fs::read_to_string(page).context("read the page")?;
    let openapi =
        fs::read_to_string(workspace::root().join("docs/openapi.yaml")).context("read the description")?;
    let operations = openapi.lines().filter_map(|line| line.trim().strip_prefix("operationId: "));
    for operation in operations {
        ensure!(page.contains(&format!("\"operationId\": \"{operation}\"")), "the page lacks {operation}");
    }
    Ok(())
}
