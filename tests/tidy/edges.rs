//! Imports point down: the table of allowed edges between the modules of the library.
//!
//! A module may import itself and what its row lists, by module path, in test code too. Whoever needs another
//! edge changes the table, the copy of it in ARCHITECTURE.md and the reason there, in one commit.

use super::lexer::Token;
use super::paths::{self, module_of};
use super::{File, Finding, Rule};

/// Each module below `src` and the modules it may import, from the bottom up. A row lists earlier rows only.
pub(crate) const EDGES: &[(&str, &[&str])] = &[
    ("id", &[]),
    ("identity", &["id"]),
    ("addr", &["id"]),
    ("wire", &["id", "identity", "addr"]),
    ("dht", &["id", "identity", "addr", "wire"]),
    ("rpc", &["id", "identity", "addr", "wire"]),
    ("pubsub", &["id", "identity", "addr", "wire"]),
    ("route", &["id", "identity", "addr", "wire"]),
    ("nat", &["id", "identity", "addr", "wire"]),
    ("runtime", &[]),
    ("persist", &["id", "addr", "wire", "runtime"]),
    ("transport", &["id", "identity", "addr", "wire", "runtime"]),
    ("pool", &["id", "identity", "addr", "wire", "runtime", "transport"]),
    (
        "service",
        &[
            "id",
            "identity",
            "addr",
            "wire",
            "dht",
            "rpc",
            "pubsub",
            "route",
            "nat",
            "runtime",
            "persist",
            "transport",
            "pool",
        ],
    ),
    (
        "node",
        &[
            "id",
            "identity",
            "addr",
            "wire",
            "dht",
            "rpc",
            "pubsub",
            "route",
            "nat",
            "runtime",
            "persist",
            "transport",
            "pool",
            "service",
        ],
    ),
    (
        "mesh",
        &[
            "id",
            "identity",
            "addr",
            "wire",
            "dht",
            "rpc",
            "pubsub",
            "route",
            "nat",
            "runtime",
            "persist",
            "transport",
            "pool",
            "service",
            "node",
        ],
    ),
    (
        "baseline",
        &[
            "id",
            "identity",
            "addr",
            "wire",
            "dht",
            "rpc",
            "pubsub",
            "route",
            "nat",
            "runtime",
            "persist",
            "transport",
            "pool",
            "service",
            "node",
        ],
    ),
];

/// The row of `module`: what it may import.
pub(crate) fn row(module: &str) -> Option<&'static [&'static str]> {
    EDGES.iter().find(|(name, _)| *name == module).map(|(_, imports)| *imports)
}

/// Whether the file is a program, which uses the library through its public face.
fn is_program(path: &str) -> bool {
    path == "src/main.rs" || path.starts_with("src/bin/")
}

/// Checks the imports of one file below `src`.
pub(crate) fn check(file: &File, tokens: &[Token<'_>]) -> Vec<Finding> {
    let module = module_of(&file.path);
    let Some(own) = module.first().copied().filter(|_| !is_program(&file.path)) else {
        return Vec::new();
    };
    let finding = |line, rule, detail| Finding { path: file.path.clone(), line, rule, detail };
    let Some(allowed) = row(own) else {
        let detail = format!("module `{own}` has no row in the table of edges");
        return vec![finding(1, Rule::UnknownModule, detail)];
    };
    let mut findings = Vec::new();
    for named in paths::paths(&file.path, tokens) {
        let Some(path) = named.rooted() else { continue };
        let target = path.first().copied().unwrap_or("");
        if target == own || allowed.contains(&target) {
            continue;
        }
        if row(target).is_some() {
            let detail = format!("`{own}` may not import `{target}`");
            findings.push(finding(named.line, Rule::Edge, detail));
        } else {
            let detail = format!("`crate::{target}`: name the module where it is defined");
            findings.push(finding(named.line, Rule::Reexport, detail));
        }
    }
    for pair in tokens.windows(2) {
        match [pair[0].text, pair[1].text] {
            ["[", "path"] => {
                let detail = "a `path` attribute hides where a module lives".to_owned();
                findings.push(finding(pair[0].line, Rule::UnknownModule, detail));
            }
            ["extern", "crate"] => {
                let detail = "`extern crate` renames a root".to_owned();
                findings.push(finding(pair[0].line, Rule::Reexport, detail));
            }
            _ => {}
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::EDGES;

    #[test]
    fn the_table_points_down_only() {
        for (at, (module, imports)) in EDGES.iter().enumerate() {
            let below: Vec<&str> = EDGES[..at].iter().map(|(name, _)| *name).collect();
            assert!(!below.contains(module), "{module} has two rows");
            for import in *imports {
                assert!(below.contains(import), "{module} imports {import}, which does not stand below it");
            }
        }
    }

    #[test]
    fn the_pure_services_do_not_know_each_other() {
        let services = ["dht", "rpc", "pubsub", "route", "nat"];
        for service in services {
            let imports = super::row(service).expect("a row");
            assert!(services.iter().all(|other| !imports.contains(other)), "{service}");
        }
    }
}
