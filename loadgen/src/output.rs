//! Where results go: reports to stdout or a file, never half a file.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Writes to stdout. A reader that has gone away is not an error.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("stdout"),
        _ => Ok(()),
    }
}

/// Writes `value` as JSON to `path`, or to stdout when that is `-`.
pub fn write_json(value: &impl Serialize, path: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    if path == Path::new("-") {
        return print(&text);
    }
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(part);
    let written = fs::write(&part, text).and_then(|()| fs::rename(&part, path));
    written.with_context(|| format!("{}", path.display()))
}

/// The file of a report for which none was named: `loadgen-20261120-093501.json`.
pub fn default_path(now: SystemTime) -> PathBuf {
    let time = humantime::format_rfc3339_seconds(now).to_string();
    let digits = time.replace(['-', ':', 'Z'], "").replace('T', "-");
    PathBuf::from(format!("loadgen-{digits}.json"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_file_name_says_when() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_080_901);
        assert_eq!(default_path(time), PathBuf::from("loadgen-20261119-093501.json"));
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let path = std::env::temp_dir().join(format!("loadgen-output-{}.json", std::process::id()));
        for value in [1, 2] {
            write_json(&value, &path).expect("a writable directory");
            assert_eq!(fs::read_to_string(&path).expect("written"), format!("{value}\n"));
        }
        fs::remove_file(&path).expect("it is there");
        assert!(write_json(&1, Path::new("/nonexistent/x.json")).is_err());
    }
}
