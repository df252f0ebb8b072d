//! ARCHITECTURE.md is a map of this code: its table of edges is the one that is checked, and the tests it
//! names exist.

use super::edges::EDGES;
use super::{File, Finding, Rule};

/// The page that is checked.
const PAGE: &str = "ARCHITECTURE.md";

/// The heading over the table promise -> test.
const PROMISES: &str = "## Promises";

/// Checks the page against the code, if it is among `files`.
pub(crate) fn check(files: &[File]) -> Vec<Finding> {
    let Some(page) = files.iter().find(|file| file.path == PAGE) else { return Vec::new() };
    let finding = |line, detail| Finding { path: PAGE.to_owned(), line, rule: Rule::Map, detail };
    let mut findings = Vec::new();
    for (module, imports) in EDGES {
        let row = edge_row(module, imports);
        if !page.text.lines().any(|line| line == row) {
            findings.push(finding(1, format!("the table of edges lacks this row: {row}")));
        }
    }
    let promises = page.text.lines().enumerate().skip_while(|(_, line)| *line != PROMISES).skip(1);
    let rows =
        promises.take_while(|(_, line)| !line.starts_with("## ")).filter(|(_, line)| line.starts_with('|'));
    for (at, row) in rows.skip(2) {
        let proof = row.trim_matches('|').split('|').next_back().unwrap_or("").trim();
        if proof.starts_with("coming") {
            continue;
        }
        let names: Vec<&str> = proof.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            findings.push(finding(at + 1, "a promise names a test or says `coming`".to_owned()));
        }
        for name in names.into_iter().filter(|name| !exists(files, name)) {
            findings.push(finding(at + 1, format!("there is no test `{name}`")));
        }
    }
    findings
}

/// The row of the table of edges as the page shows it.
pub(crate) fn edge_row(module: &str, imports: &[&str]) -> String {
    let imports: Vec<String> = imports.iter().map(|import| format!("`{import}`")).collect();
    let imports = if imports.is_empty() { "nothing".to_owned() } else { imports.join(" ") };
    format!("| `{module}` | {imports} |")
}

/// Whether `name` is a file or a folder of the repository, or a function in a Rust file.
fn exists(files: &[File], name: &str) -> bool {
    if name.contains('/') {
        return files.iter().any(|file| file.path == name || file.path.starts_with(&format!("{name}/")));
    }
    let function = format!("fn {name}(");
    files.iter().any(|file| file.path.ends_with(".rs") && file.text.contains(&function))
}
