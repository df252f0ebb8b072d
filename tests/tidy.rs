//! The shape of the code, kept by a test: which module may import which, what each layer may name, how long
//! a file or a function may grow.
//!
//! [`tidy::check`] is a pure function from the files of the repository to a list of findings. It knows no
//! exceptions: a rule that does not fit is changed for everybody, here, in a commit that says why. The test
//! over the real tree stands in this file; `tidy/planted.rs` plants one violation per rule and expects the
//! finding, so that a rule that stops working is noticed.

mod tidy {
    pub(crate) mod edges;
    pub(crate) mod layers;
    pub(crate) mod lexer;
    pub(crate) mod map;
    pub(crate) mod paths;
    mod planted;
    pub(crate) mod size;

    use std::fmt;

    /// One file of the repository: its path from the root, with forward slashes, and its text.
    #[derive(Clone, Debug)]
    pub(crate) struct File {
        pub(crate) path: String,
        pub(crate) text: String,
    }

    /// One broken rule.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub(crate) struct Finding {
        pub(crate) path: String,
        pub(crate) line: usize,
        pub(crate) rule: Rule,
        pub(crate) detail: String,
    }

    /// The rules, one name each.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub(crate) enum Rule {
        /// An import that the table of edges does not allow.
        Edge,
        /// An import through a re-export of `lib.rs`, a glob of the crate root or a renamed root.
        Reexport,
        /// A module that the table of edges does not list.
        UnknownModule,
        /// A pure layer that names a runtime, a transport, a clock, a thread, a socket or chance.
        Impure,
        /// A crate that is named outside the one module it belongs to.
        Confined,
        /// A lint that only `runtime` may silence.
        Silenced,
        /// A file that is too long.
        LongFile,
        /// A function that is too long.
        LongFunction,
        /// A file that does not open by saying what it is.
        NoModuleDoc,
        /// A name of something that is not part of this repository.
        Foreign,
        /// ARCHITECTURE.md and the code disagree.
        Map,
    }

    impl fmt::Display for Finding {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}:{}: {:?}: {}", self.path, self.line, self.rule, self.detail)
        }
    }

    /// Checks every rule over `files` and returns what is broken, sorted.
    pub(crate) fn check(files: &[File]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for file in files {
            findings.extend(layers::foreign(file));
            if file.path.ends_with(".rs") {
                let tokens = lexer::tokens(&file.text);
                findings.extend(size::check(file, &tokens));
                if file.path.starts_with("src/") {
                    findings.extend(edges::check(file, &tokens));
                }
                findings.extend(layers::check(file, &tokens));
            }
        }
        findings.extend(map::check(files));
        findings.sort();
        findings.dedup();
        findings
    }
}

use std::fs;
use std::path::Path;

use tidy::File;

/// What is not source: build output, version control, stored results.
const SKIPPED: [&str; 4] = ["target", ".git", "bench-results", "node_modules"];

fn read_tree(root: &Path, folder: &Path, files: &mut Vec<File>) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a readable directory entry").path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if SKIPPED.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            read_tree(root, &path, files);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(root).expect("a path below the root");
            let path = path.to_string_lossy().replace('\\', "/");
            files.push(File { path, text });
        }
    }
}

#[test]
fn the_tree_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    read_tree(root, root, &mut files);
    let sources = files.iter().filter(|file| file.path.starts_with("src/")).count();
    assert!(sources > 10, "only {sources} files found under src: the walk is broken");
    assert!(files.iter().any(|file| file.path == "ARCHITECTURE.md"), "the map is missing");
    let findings = tidy::check(&files);
    let list: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "{} findings\n{}", list.len(), list.join("\n"));
}
