//! One planted violation per rule, and the finding it must raise: a rule that cannot fail proves nothing.

use super::edges::EDGES;
use super::map::edge_row;
use super::size::{FILE_LINES_MAX, FUNCTION_LINES_MAX};
use super::{File, Finding, Rule, check};

fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}

/// Checks one Rust file with a proper opening.
fn findings(path: &str, code: &str) -> Vec<Finding> {
    check(&[file(path, &format!("//! A planted file.\n{code}"))])
}

/// Expects exactly one finding, of `rule` and on line 2, for each piece of code.
fn each_breaks(rule: Rule, path: &str, pieces: &[&str]) {
    for code in pieces {
        let found: Vec<_> = findings(path, code).into_iter().map(|f| (f.rule, f.line)).collect();
        assert_eq!(found, [(rule, 2)], "{path}: {code}");
    }
}

/// Expects no finding for each piece of code.
fn each_passes(path: &str, pieces: &[&str]) {
    for code in pieces {
        assert_eq!(findings(path, code), [], "{path}: {code}");
    }
}

#[test]
fn an_import_that_points_up_is_found() {
    each_breaks(
        Rule::Edge,
        "src/dht/table.rs",
        &[
            "use crate::pool::Pool;",
            "use crate::{id::NodeId, pool};",
            "use crate::{id::{Key, NodeId}, wire, pool::{self, Pool as P}};",
            "use {std::fmt, crate::pool::Pool};",
            "use super::super::pool::Pool;",
            "use super::super::{id, pool};",
            "use self::super::super::pool;",
            "fn f() -> u8 { crate::pool::LIMIT }",
            "fn f(x: Vec<crate::pool::Pool>) {}",
            "impl crate::pool::Inbound for X {}",
            "macro_rules! m { () => { $crate::pool::LIMIT } }",
            "mod tests { use crate::pool::Pool; }",
            "mod tests { use super::super::super::pool::Pool; }",
            "pub(crate) use crate::pool::Pool;",
        ],
    );
    each_breaks(Rule::Edge, "src/dht/mod.rs", &["use super::pool;", "mod tests { use super::super::pool; }"]);
    each_breaks(Rule::Edge, "src/id.rs", &["use crate::addr::Host;", "use super::wire;"]);
}

#[test]
fn every_edge_that_the_table_lacks_is_found() {
    let mut refused = 0;
    for (from, imports) in EDGES {
        for (to, _) in EDGES.iter().filter(|(to, _)| to != from) {
            let code = format!("use crate::{to}::X;");
            let found = findings(&format!("src/{from}/mod.rs"), &code);
            let allowed = imports.contains(to);
            assert_eq!(found.is_empty(), allowed, "{from} -> {to}: {found:?}");
            refused += usize::from(!allowed);
        }
    }
    assert!(refused > EDGES.len() * (EDGES.len() - 1) / 2, "at most one direction of each pair is allowed");
}

#[test]
fn imports_that_point_down_pass() {
    each_passes(
        "src/dht/table.rs",
        &[
            "use crate::id::NodeId;",
            "use crate::dht::store::Shard;",
            "use super::store::Shard;",
            "use super::super::id::NodeId;",
            "pub(in crate::dht) fn f() {}",
            "// use crate::pool::Pool;\n/// [`crate::pool::Pool`]\nconst S: &str = \"crate::pool::Pool\";",
            "mod tests { use super::*; use super::super::store; }",
            "use pool::X; fn f() { a.pool(); pool::g() }",
        ],
    );
    each_passes("src/lib.rs", &["pub use node::Node; pub use crate::pool::PoolStats;"]);
    each_passes("src/bin/foveola/main.rs", &["use foveola::Node; use crate::config::Config;"]);
}

#[test]
fn an_import_through_the_crate_root_is_found() {
    each_breaks(
        Rule::Reexport,
        "src/service/dht.rs",
        &[
            "use crate::NodeId;",
            "use crate::{id, NodeId};",
            "use crate::*;",
            "use crate as root;",
            "use crate::{self as root, id};",
            "use super::super::NodeId;",
            "extern crate self as me;",
            "fn f(id: crate::NodeId) {}",
        ],
    );
}

#[test]
fn a_module_without_a_row_is_found() {
    let found = findings("src/util/mod.rs", "");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].rule, Rule::UnknownModule);
    each_breaks(Rule::UnknownModule, "src/dht/mod.rs", &["#[path = \"../pool/mod.rs\"] mod pool;"]);
}

#[test]
fn a_pure_module_that_touches_the_world_is_found() {
    each_breaks(
        Rule::Impure,
        "src/dht/table.rs",
        &[
            "use tokio::sync::Mutex;",
            "use std::time::SystemTime;",
            "use std::{net::UdpSocket, time::Instant};",
            "fn f() { std::net::TcpStream::connect(x) }",
            "use std::thread;",
            "use std::{fmt, thread::spawn};",
            "fn f() { let now = Instant::now(); }",
            "fn f() { let now = std::time::Instant::now(); }",
            "fn f(at: Instant) { at.elapsed(); }",
            "fn f() { rand::rng().random() }",
            "use rand::{Rng, random};",
            "use rand::*;",
            "fn f() -> u8 { rand::random() }",
            "fn f() { StdRng::from_rng(&mut thread_rng()) }",
            "use rand::rngs::SysRng;",
            "fn f() { let m: HashMap<u8, u8> = HashMap::new(); }",
            "use std::hash::RandomState;",
            "mod tests { use tokio::time; }",
        ],
    );
    for pure in ["id", "identity", "addr", "wire", "dht", "rpc", "pubsub", "route", "nat"] {
        each_breaks(
            Rule::Impure,
            &format!("src/{pure}.rs"),
            &["use tokio::sync;", "use std::time::SystemTime;"],
        );
    }
    each_passes(
        "src/dht/table.rs",
        &[
            "use std::time::{Duration, Instant}; use std::net::{IpAddr, SocketAddr};",
            "mod tests { fn f() { let now = Instant::now(); std::thread::scope(g); } }",
            "fn f(rng: &mut impl rand::Rng) {}",
        ],
    );
    each_passes("src/dht/tests.rs", &["fn f() { let now = Instant::now(); }"]);
    each_passes("src/identity.rs", &["use rand::rngs::SysRng;"]);
    each_passes("src/runtime/mod.rs", &["use tokio::time::Instant; fn f() { Instant::now() }"]);
}

#[test]
fn a_foreign_crate_outside_its_home_is_found() {
    each_breaks(
        Rule::Confined,
        "src/pool/mod.rs",
        &[
            "use quinn::Connection;",
            "use rustls::pki_types;",
            "fn f(x: quinn_proto::VarInt) {}",
            "use webpki::EndEntityCert;",
            "fn f() { rmp_serde::from_slice(x) }",
            "mod tests { use quinn::Endpoint; }",
        ],
    );
    each_breaks(Rule::Confined, "loadgen/src/main.rs", &["use quinn::Connection;"]);
    each_breaks(Rule::Confined, "examples/two_nodes.rs", &["use rustls::ClientConfig;"]);
    each_passes("src/transport/tls.rs", &["use quinn::Connection; use rustls::ClientConfig;"]);
    each_passes("src/wire/mod.rs", &["use rmp_serde::Deserializer;"]);
    each_passes("tests/it/hostile.rs", &["use quinn::Connection; use rustls::ClientConfig;"]);
    each_passes("benches/raw.rs", &["use quinn::Connection;"]);
}

#[test]
fn a_silenced_lint_outside_runtime_is_found() {
    let silence = "#[expect(clippy::disallowed_methods, reason = \"no\")]";
    each_breaks(Rule::Silenced, "src/pool/mod.rs", &[silence, "#![allow(clippy::disallowed_methods)]"]);
    each_passes("src/runtime/mod.rs", &[silence]);
    each_passes("src/dht/tests.rs", &[silence]);
    each_passes("tests/it/main.rs", &[silence]);
}

#[test]
fn a_long_file_is_found() {
    let lines = |count: usize| format!("//! Planted.\n{}", "// x\n".repeat(count - 1));
    for path in ["src/id.rs", "tests/it/a.rs", "benches/b.rs", "loadgen/src/c.rs", "examples/d.rs"] {
        assert_eq!(check(&[file(path, &lines(FILE_LINES_MAX))]), [], "{path}");
        let found = check(&[file(path, &lines(FILE_LINES_MAX + 1))]);
        assert_eq!(found.iter().map(|f| f.rule).collect::<Vec<_>>(), [Rule::LongFile], "{path}");
    }
}

#[test]
fn a_long_function_is_found() {
    let function =
        |head: &str, lines: usize| format!("{head} {{\n{}}}", "a(\"}\"); // }\n".repeat(lines - 2));
    for head in ["fn f()", "pub async fn f<T>(x: [u8; 3]) -> [T; 2]", "impl X { fn f(g: fn(u8) -> u8)"] {
        let close = if head.starts_with("impl") { "}" } else { "" };
        let longest = function(head, FUNCTION_LINES_MAX) + close;
        each_passes("tests/it/a.rs", &[&longest]);
        let longer = function(head, FUNCTION_LINES_MAX + 1) + close;
        each_breaks(Rule::LongFunction, "tests/it/a.rs", &[&longer]);
    }
    let longest = function("fn g()", FUNCTION_LINES_MAX);
    each_passes("tests/it/a.rs", &[&format!("trait T {{ fn f(x: [u8; 2]);\n{longest} }}")]);
}

#[test]
fn a_file_that_does_not_say_what_it_is_is_found() {
    for text in ["", "use std::fmt;\n//! Late.\n", "// Not a doc comment.\n", "//!\n//! Second line.\n"] {
        for path in ["src/id.rs", "tests/it/a.rs", "loadgen/src/c.rs"] {
            let found = check(&[file(path, text)]);
            assert_eq!(
                found.iter().map(|f| f.rule).collect::<Vec<_>>(),
                [Rule::NoModuleDoc],
                "{path}: {text}"
            );
        }
    }
}

#[test]
fn a_name_from_outside_the_repository_is_found() {
    let folder = ["sha", "red"].concat();
    for name in [format!("../{folder}/x"), format!("{folder}/spec"), ["DESI", "GN 3"].concat()] {
        for path in ["src/id.rs", "README.md", ".ci/run"] {
            let found = check(&[file(path, &format!("//! Planted.\n// see {name}\n"))]);
            let found: Vec<_> = found.iter().map(|f| (f.rule, f.line)).collect();
            assert_eq!(found, [(Rule::Foreign, 2)], "{path}: {name}");
        }
    }
}

#[test]
fn a_map_that_lies_is_found() {
    let edges: Vec<String> = EDGES.iter().map(|(module, imports)| edge_row(module, imports)).collect();
    let page = |edges: &str, proof: &str| {
        let table = format!("## Promises\n\n| promise | test |\n|---|---|\n| it holds | {proof} |\n");
        file("ARCHITECTURE.md", &format!("{edges}\n\n{table}\n## After\n\n| x | y |\n"))
    };
    let test = || file("tests/it/a.rs", "//! Planted.\nfn it_holds() {}\n");
    let edges = edges.join("\n");
    for proof in ["`it_holds`", "`tests/it`: `it_holds`", "`tests/it/a.rs`", "coming with routes"] {
        assert_eq!(check(&[page(&edges, proof), test()]), [], "{proof}");
    }
    for proof in ["`it_held`", "`tests/sim`", "yes", ""] {
        let found = check(&[page(&edges, proof), test()]);
        assert_eq!(found.iter().map(|f| f.rule).collect::<Vec<_>>(), [Rule::Map], "{proof}");
    }
    let found = check(&[page(&edges.replace("| `runtime` | nothing |", ""), "`it_holds`"), test()]);
    assert_eq!(found.iter().map(|f| f.rule).collect::<Vec<_>>(), [Rule::Map]);
}
