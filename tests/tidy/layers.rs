//! What a layer may name: the pure layers know no world, each foreign crate has one home.

use super::lexer::Token;
use super::paths::{self, module_of};
use super::{File, Finding, Rule};

/// Modules that decide and never touch the world: they are given the time, the bytes and the seed.
const PURE: [&str; 9] = ["id", "identity", "addr", "wire", "dht", "rpc", "pubsub", "route", "nat"];

/// Names that a pure module does not know, in test code either.
const WORLD: &[&str] = &[
    "tokio",
    "tokio_util",
    "quinn",
    "quinn_proto",
    "quinn_udp",
    "rustls",
    "webpki",
    "webpki_roots",
    "socket2",
    "mio",
    "moka",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "UnixDatagram",
    "UnixStream",
    "UnixListener",
    "SystemTime",
    "UNIX_EPOCH",
    "thread_rng",
    "ThreadRng",
    "RandomState",
];

/// Names of the operating system's entropy: for `identity` alone, which makes keys.
const ENTROPY: [&str; 5] = ["OsRng", "SysRng", "SystemRandom", "getrandom", "make_rng"];

/// Paths that a pure module does not name, written as their last segments.
const WORLD_PATHS: &[&[&str]] = &[
    &["rand", "rng"],
    &["rand", "rngs", "*"],
    &["rand", "prelude", "*"],
    &["rand", "*"],
    &["rand", "random"],
    &["rand", "random_bool"],
    &["rand", "random_iter"],
    &["rand", "random_range"],
    &["rand", "random_ratio"],
    &["rand", "fill"],
];

/// The clock, threads, and constructors that exist only for a randomly keyed hasher. Test code may name them: a
/// test needs an instant to count from, nothing else makes one, and a race is tested with threads.
const WORLD_PATHS_BUT_TESTS: &[&[&str]] = &[
    &["Instant", "now"],
    &["std", "thread"],
    &["HashMap", "new"],
    &["HashMap", "from"],
    &["HashMap", "with_capacity"],
    &["HashSet", "new"],
    &["HashSet", "from"],
    &["HashSet", "with_capacity"],
];

/// Foreign crates that have one home below `src`. Tests, benches and fuzz targets speak to them directly.
const HOMES: &[(&str, &str)] = &[
    ("quinn", "transport"),
    ("quinn_proto", "transport"),
    ("quinn_udp", "transport"),
    ("rustls", "transport"),
    ("webpki", "transport"),
    ("webpki_roots", "transport"),
    ("socket2", "transport"),
    ("rmp", "wire"),
    ("rmp_serde", "wire"),
    ("redb", "persist"),
];

/// Checks what one Rust file names.
pub(crate) fn check(file: &File, tokens: &[Token<'_>]) -> Vec<Finding> {
    let mut findings = confined(file, tokens);
    let module = module_of(&file.path);
    let own = module.first().copied().filter(|_| file.path.starts_with("src/")).unwrap_or("");
    if PURE.contains(&own) {
        findings.extend(impure(file, tokens, own));
    }
    if file.path.starts_with("src/") && own != "runtime" {
        findings.extend(silenced(file, tokens));
    }
    findings
}

/// A line that holds a name of something outside this repository, in any text file.
pub(crate) fn foreign(file: &File) -> Vec<Finding> {
    // Put together here so that this file does not hold them.
    let folder = ["sha", "red"].concat();
    let mut names = vec![["DESI", "GN"].concat(), ["../.lib", "rary"].concat()];
    names.extend(["../", "/work/"].map(|root| format!("{root}{folder}")));
    names.extend(["reference", "spec"].map(|inner| format!("{folder}/{inner}")));
    names.extend(
        ["perf", "tools", "features", "reliability", "codebases"]
            .map(|page| format!("{}/{page}.md", "reference")),
    );
    let mut findings = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        if let Some(name) = names.iter().find(|name| line.contains(name.as_str())) {
            let detail = format!("`{name}` is not part of this repository");
            findings.push(Finding { path: file.path.clone(), line: at + 1, rule: Rule::Foreign, detail });
        }
    }
    findings
}

fn confined(file: &File, tokens: &[Token<'_>]) -> Vec<Finding> {
    let free = ["tests/", "benches/", "fuzz/"].iter().any(|folder| file.path.starts_with(folder));
    if free {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for token in tokens {
        let Some((_, home)) = HOMES.iter().find(|(name, _)| *name == token.text) else { continue };
        let at_home = file.path.starts_with(&format!("src/{home}/")) || file.path == format!("src/{home}.rs");
        if !at_home {
            let detail = format!("`{}` is named in src/{home} only", token.text);
            findings.push(Finding {
                path: file.path.clone(),
                line: token.line,
                rule: Rule::Confined,
                detail,
            });
        }
    }
    findings
}

fn impure(file: &File, tokens: &[Token<'_>], own: &str) -> Vec<Finding> {
    let finding = |line, name: &str| Finding {
        path: file.path.clone(),
        line,
        rule: Rule::Impure,
        detail: format!("`{own}` is pure: it does not know `{name}`"),
    };
    let mut findings = Vec::new();
    for token in tokens {
        let entropy = own != "identity" && ENTROPY.contains(&token.text);
        if entropy || WORLD.contains(&token.text) {
            findings.push(finding(token.line, token.text));
        }
    }
    for named in paths::paths(&file.path, tokens) {
        let names = |paths: &[&[&str]]| paths.iter().any(|path| holds(&named.segments, path));
        if names(WORLD_PATHS) || (!named.in_tests() && names(WORLD_PATHS_BUT_TESTS)) {
            findings.push(finding(named.line, &named.segments.join("::")));
        }
    }
    let modules = paths::modules(&file.path, tokens);
    for (at, pair) in tokens.windows(2).enumerate() {
        let reads_clock = pair[0].text == "." && pair[1].text == "elapsed";
        if reads_clock && !modules[at].contains(&"tests") {
            findings.push(finding(pair[1].line, "elapsed"));
        }
    }
    findings
}

/// Whether `path` stands somewhere in `segments`.
fn holds(segments: &[&str], path: &[&str]) -> bool {
    segments.windows(path.len()).any(|window| window == path)
}

fn silenced(file: &File, tokens: &[Token<'_>]) -> Vec<Finding> {
    let modules = paths::modules(&file.path, tokens);
    let mut findings = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if token.text == "disallowed_methods" && !modules[at].contains(&"tests") {
            let detail = "clocks and tasks come from `runtime`, which alone may silence this lint".to_owned();
            findings.push(Finding {
                path: file.path.clone(),
                line: token.line,
                rule: Rule::Silenced,
                detail,
            });
        }
    }
    findings
}
