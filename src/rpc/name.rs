//! What a service may be called.
//!
//! Providers of a service are found in the DHT under [`Key::of_name`](crate::id::Key::of_name): the SHA-256
//! of the name, so names are compared byte by byte, without folding case or normalising.

/// The longest name of a service, in bytes.
pub const SERVICE_NAME_MAX: usize = 255;

/// Why a text cannot name a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The text is empty or longer than [`SERVICE_NAME_MAX`].
    #[error("a service name has 1 to {SERVICE_NAME_MAX} bytes, not {0}")]
    Length(usize),
    /// A control character or white space begins at this byte.
    #[error("a service name has no control characters and no white space, as at byte {0}")]
    Character(usize),
}

/// Checks that `name` has 1 to [`SERVICE_NAME_MAX`] bytes, none of them of a control character or of white
/// space. Any other Unicode is permitted.
///
/// # Errors
///
/// [`NameError`] says what is wrong.
pub fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() || name.len() > SERVICE_NAME_MAX {
        return Err(NameError::Length(name.len()));
    }
    let unfit = |(_, c): &(usize, char)| c.is_control() || c.is_whitespace();
    name.char_indices().find(unfit).map_or(Ok(()), |(at, _)| Err(NameError::Character(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_visible_texts() {
        for good in ["a", "math.add", "org/app#1", "grüße", &"n".repeat(SERVICE_NAME_MAX)] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        assert_eq!(check(""), Err(NameError::Length(0)));
        assert_eq!(check(&"ü".repeat(128)), Err(NameError::Length(256)));
        let cases = [
            ("a b", 1),
            ("tab\t", 3),
            ("\0", 0),
            ("ü\n", 2),
            ("x\u{7f}", 1),
            ("wide\u{3000}", 4),
            ("\u{85}", 0),
        ];
        for (bad, at) in cases {
            assert_eq!(check(bad), Err(NameError::Character(at)), "{bad:?}");
        }
    }
}
