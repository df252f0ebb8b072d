//! Tells the reports what they were made with: the revision and the compiler.
#![allow(clippy::print_stdout, reason = "cargo reads the standard output of a build script")]

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let answers = [
        ("LOADGEN_GIT", Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output()),
        ("LOADGEN_RUSTC", Command::new(rustc).arg("--version").output()),
    ];
    for (name, answer) in answers {
        // Outside a repository there is no revision, and the report says null.
        let text = answer.ok().filter(|answer| answer.status.success()).map(|answer| answer.stdout);
        if let Some(text) = text.and_then(|text| String::from_utf8(text).ok()) {
            println!("cargo::rustc-env={name}={}", text.trim());
        }
    }
}
