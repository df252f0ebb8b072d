//! Size: a file and a function that fit in a head, and a first line that says what the file is.

use super::lexer::Token;
use super::{File, Finding, Rule};

/// Lines in a source file, tests included.
pub(crate) const FILE_LINES_MAX: usize = 400;

/// Lines in a function, from `fn` to its closing brace.
pub(crate) const FUNCTION_LINES_MAX: usize = 70;

/// Checks the size of one Rust file, of its functions, and its opening.
pub(crate) fn check(file: &File, tokens: &[Token<'_>]) -> Vec<Finding> {
    let finding = |line, rule, detail| Finding { path: file.path.clone(), line, rule, detail };
    let mut findings = Vec::new();
    let lines = file.text.lines().count();
    if lines > FILE_LINES_MAX {
        let detail = format!("{lines} lines, at most {FILE_LINES_MAX}");
        findings.push(finding(lines, Rule::LongFile, detail));
    }
    let opening = file.text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("");
    if opening.strip_prefix("//!").is_none_or(|idea| idea.trim().is_empty()) {
        let detail = "the first line is not a `//!` comment that says what this is".to_owned();
        findings.push(finding(1, Rule::NoModuleDoc, detail));
    }
    for at in 0..tokens.len() {
        let Some((name, lines)) = function(tokens, at) else { continue };
        if lines > FUNCTION_LINES_MAX {
            let detail = format!("`{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}");
            findings.push(finding(tokens[at].line, Rule::LongFunction, detail));
        }
    }
    findings
}

/// The name and the number of lines of the function whose `fn` stands at `at`, if it has a body.
fn function<'a>(tokens: &[Token<'a>], at: usize) -> Option<(&'a str, usize)> {
    let name = tokens.get(at + 1)?;
    if tokens[at].text != "fn" || name.text == "(" {
        return None;
    }
    let mut nested = 0_i32;
    let mut braces = 0_i32;
    for token in &tokens[at + 1..] {
        match token.text {
            "(" | "[" => nested += 1,
            ")" | "]" => nested -= 1,
            ";" if nested == 0 && braces == 0 => return None,
            "{" => braces += 1,
            "}" => {
                braces -= 1;
                if braces <= 0 {
                    return (braces == 0).then(|| (name.text, token.line - tokens[at].line + 1));
                }
            }
            _ => {}
        }
    }
    None
}
