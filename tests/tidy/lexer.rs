//! A small Rust lexer: enough to see names and braces, and to be blind to comments, strings and characters.

/// A name, a number or one character of punctuation (`::` is one token), and the line it stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    pub(crate) line: usize,
}

impl Token<'_> {
    /// Whether this is a name or a keyword rather than a number or punctuation.
    pub(crate) fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// The tokens of `text`; comments, string and character literals and lifetimes are left out.
pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer { rest: text, line: 1 };
    let mut tokens = Vec::new();
    while !lexer.rest.is_empty() {
        lexer.step(&mut tokens);
    }
    tokens
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Lexer<'a> {
    /// Consumes `len` bytes and returns them.
    fn take(&mut self, len: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    fn step(&mut self, tokens: &mut Vec<Token<'a>>) {
        let Some(first) = self.rest.chars().next() else { return };
        if first.is_whitespace() {
            self.take(first.len_utf8());
        } else if self.rest.starts_with("//") {
            let len = self.rest.find('\n').unwrap_or(self.rest.len());
            self.take(len);
        } else if self.rest.starts_with("/*") {
            self.block_comment();
        } else if first == '"' {
            self.string();
        } else if first == '\'' {
            self.quote();
        } else if first.is_alphanumeric() || first == '_' {
            self.word(tokens);
        } else {
            let line = self.line;
            let len = if self.rest.starts_with("::") { 2 } else { first.len_utf8() };
            let text = self.take(len);
            tokens.push(Token { text, line });
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0_u32;
        while !self.rest.is_empty() {
            if self.rest.starts_with("/*") {
                depth += 1;
                self.take(2);
            } else if self.rest.starts_with("*/") {
                depth -= 1;
                self.take(2);
                if depth == 0 {
                    return;
                }
            } else {
                self.take_char();
            }
        }
    }

    fn take_char(&mut self) {
        let len = self.rest.chars().next().map_or(0, char::len_utf8);
        self.take(len);
    }

    /// A string literal that starts at its opening quote.
    fn string(&mut self) {
        self.take(1);
        while let Some(c) = self.rest.chars().next() {
            self.take(c.len_utf8());
            match c {
                '\\' => self.take_char(),
                '"' => return,
                _ => {}
            }
        }
    }

    /// A raw string that starts at its first `#` or quote.
    fn raw_string(&mut self) {
        let hashes = self.rest.bytes().take_while(|b| *b == b'#').count();
        let end = format!("\"{}", "#".repeat(hashes));
        self.take(hashes + 1);
        let len = self.rest.find(&end).map_or(self.rest.len(), |at| at + end.len());
        self.take(len);
    }

    /// A character literal or a lifetime.
    fn quote(&mut self) {
        self.take(1);
        let mut chars = self.rest.chars();
        let (first, second) = (chars.next(), chars.next());
        if first == Some('\\') {
            self.take(1);
            self.take_char();
            let len = self.rest.find('\'').map_or(self.rest.len(), |at| at + 1);
            self.take(len);
        } else if second == Some('\'') {
            self.take_char();
            self.take(1);
        } else {
            let len = self.word_len();
            self.take(len);
        }
    }

    fn word_len(&self) -> usize {
        let end = |c: char| !(c.is_alphanumeric() || c == '_');
        self.rest.find(end).unwrap_or(self.rest.len())
    }

    /// A name or a number, or the prefix of a literal or of a raw name.
    fn word(&mut self, tokens: &mut Vec<Token<'a>>) {
        let line = self.line;
        let len = self.word_len();
        let text = self.take(len);
        let raw = matches!(text, "r" | "br" | "cr");
        let after_hashes = self.rest.trim_start_matches('#').starts_with('"');
        if raw && after_hashes {
            self.raw_string();
        } else if matches!(text, "b" | "c") && self.rest.starts_with('"') {
            self.string();
        } else if text == "b" && self.rest.starts_with('\'') {
            self.quote();
        } else if text == "r" && self.rest.starts_with('#') {
            self.take(1);
            self.word(tokens);
        } else {
            tokens.push(Token { text, line });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::tokens;

    fn words(text: &str) -> String {
        tokens(text).iter().map(|token| token.text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_strings_and_characters_are_invisible() {
        let cases = [
            ("a // b {\nc", "a c"),
            ("a /* { /* } */ { */ b", "a b"),
            (r#"a("}\"{", b)"#, "a ( , b )"),
            ("r#\"{ \" }\"# x", "x"),
            ("br\"\\\" x", "x"),
            ("b'{' x b\"}\" y c\"}\" z", "x y z"),
            (r"'{' '\'' '\u{7b}' '\\' x", "x"),
            ("'a'x", "x"),
            ("fn f<'a, 'b>(x: &'a str)", "fn f < , > ( x : & str )"),
            ("r#type::b 'l: loop {}", "type :: b : loop { }"),
            ("0..10_u8", "0 . . 10_u8"),
        ];
        for (text, want) in cases {
            assert_eq!(words(text), want, "{text}");
        }
    }

    #[test]
    fn lines_are_counted_through_literals() {
        let tokens = tokens("\"a\nb\" c /*\n*/ d\n'\n' e");
        let lines: Vec<_> = tokens.iter().map(|token| (token.text, token.line)).collect();
        assert_eq!(lines, [("c", 2), ("d", 3), ("e", 5)]);
    }
}
