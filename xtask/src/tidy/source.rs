//! source splits a Rust file into code and comments, so that rules look at the right one.
//!
//! A scanner, not a parser: it knows comments, strings and character literals, and nothing else.
//! Strings are emptied in the code, so that a rule's own word list does not trip the rule.

/// One Rust file.
#[derive(Debug)]
pub(super) struct Source {
    /// From the root, with `/`.
    pub(super) path: String,
    /// The lines as they are.
    pub(super) lines: Vec<String>,
    /// The lines without comments and without what stands inside string literals.
    pub(super) code: Vec<String>,
    /// What the comments of each line say.
    pub(super) comments: Vec<String>,
    /// Lines before the `#[cfg(test)] mod tests` at the end, or all.
    pub(super) shipped: usize,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let (code, comments) = split(text);
        let starts_tests = |at: &usize| code[*at] == "#[cfg(test)]" && opens_tests(&code[at + 1..]);
        let shipped = (0..code.len()).find(starts_tests).unwrap_or(code.len());
        let lines = text.lines().map(str::to_owned).collect();
        Self { path: path.to_owned(), lines, code, comments, shipped }
    }

    /// Whether the whole file is a test, bench or example: nobody's users run it.
    pub(super) fn is_test(&self) -> bool {
        let parts = ["/tests/", "/benches/", "/examples/"];
        self.path.ends_with("/tests.rs") || parts.iter().any(|part| self.path.contains(part))
    }

    /// Line number from 1 and code of every line that is shipped; none in a test file, and none
    /// in a workspace of its own.
    pub(super) fn shipped_code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = if self.is_test() || is_apart(&self.path) { 0 } else { self.shipped };
        self.code[..lines].iter().enumerate().map(|(at, line)| (at + 1, line.as_str()))
    }

    /// Line number from 1 and code of every line.
    pub(super) fn all_code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.iter().enumerate().map(|(at, line)| (at + 1, line.as_str()))
    }
}

/// Whether a path belongs to a workspace of its own, which follows its own neighbours: programs
/// around other QUIC stacks, and fuzzers.
pub(super) fn is_apart(path: &str) -> bool {
    path.starts_with("bench/peers/") || path.starts_with("fuzz/")
}

/// Where `word` stands alone in `line`, not as a part of a longer identifier.
pub(super) fn find_word(line: &str, word: &str) -> Option<usize> {
    line.match_indices(word).map(|(at, _)| at).find(|at| {
        let before = line[..*at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_identifier) && !after.is_some_and(is_identifier)
    })
}

pub(super) fn is_identifier(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Whether the next thing that is no attribute is `mod tests`.
fn opens_tests(lines: &[String]) -> bool {
    let mut items = lines.iter().filter(|line| !line.trim().is_empty() && !line.starts_with("#["));
    items.next().is_some_and(|item| item.contains("mod tests"))
}

enum Inside {
    Code,
    LineComment,
    BlockComment { depth: usize },
    Text { raw: bool, hashes: usize },
}

/// Code and comments of `text`, line by line, at equal line numbers.
fn split(text: &str) -> (Vec<String>, Vec<String>) {
    let chars: Vec<char> = text.chars().collect();
    let mut code = vec![String::new()];
    let mut comments = vec![String::new()];
    let mut inside = Inside::Code;
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        if c == '\n' {
            if matches!(inside, Inside::LineComment) {
                inside = Inside::Code;
            }
            code.push(String::new());
            comments.push(String::new());
            at += 1;
            continue;
        }
        let line = code.len() - 1;
        let rest = &chars[at..];
        let width;
        (inside, width) = match inside {
            Inside::Code => in_code(rest, previous(&chars, at), &mut code[line]),
            Inside::LineComment => {
                comments[line].push(c);
                (inside, 1)
            }
            Inside::BlockComment { depth } => in_block_comment(rest, depth, &mut comments[line]),
            Inside::Text { raw, hashes } => in_text(rest, raw, hashes, &mut code[line]),
        };
        at += width;
    }
    if text.ends_with('\n') || text.is_empty() {
        code.pop();
        comments.pop();
    }
    (code, comments)
}

fn in_code(rest: &[char], previous: Option<char>, code: &mut String) -> (Inside, usize) {
    match rest {
        ['/', '/', ..] => (Inside::LineComment, 2),
        ['/', '*', ..] => (Inside::BlockComment { depth: 1 }, 2),
        ['"', ..] => {
            code.push('"');
            (Inside::Text { raw: false, hashes: 0 }, 1)
        }
        ['r', ..] if !previous.is_some_and(is_identifier) || ends_as_prefix(code) => {
            let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
            if rest.get(1 + hashes) == Some(&'"') {
                code.push_str("r\"");
                return (Inside::Text { raw: true, hashes }, 2 + hashes);
            }
            code.push('r');
            (Inside::Code, 1)
        }
        ['\'', '\\', _, tail @ ..] => {
            let width = tail.iter().position(|c| *c == '\'').unwrap_or(0);
            code.push_str("' '");
            (Inside::Code, 4 + width)
        }
        ['\'', _, '\'', ..] => {
            code.push_str("' '");
            (Inside::Code, 3)
        }
        [c, ..] => {
            code.push(*c);
            (Inside::Code, 1)
        }
        [] => (Inside::Code, 1),
    }
}

/// Whether the code ends in the `b` or `c` of `br"` and `cr"`, alone.
fn ends_as_prefix(code: &str) -> bool {
    let mut back = code.chars().rev();
    matches!(back.next(), Some('b' | 'c')) && !back.next().is_some_and(is_identifier)
}

fn in_block_comment(rest: &[char], depth: usize, comment: &mut String) -> (Inside, usize) {
    match rest {
        ['*', '/', ..] if depth == 1 => (Inside::Code, 2),
        ['*', '/', ..] => (Inside::BlockComment { depth: depth - 1 }, 2),
        ['/', '*', ..] => (Inside::BlockComment { depth: depth + 1 }, 2),
        _ => {
            comment.push(rest[0]);
            (Inside::BlockComment { depth }, 1)
        }
    }
}

fn in_text(rest: &[char], raw: bool, hashes: usize, code: &mut String) -> (Inside, usize) {
    let stays = Inside::Text { raw, hashes };
    match rest {
        ['\\', next, ..] if !raw && *next != '\n' => (stays, 2),
        ['"', tail @ ..] if tail.iter().take_while(|c| **c == '#').count() >= hashes => {
            code.push('"');
            (Inside::Code, 1 + hashes)
        }
        _ => (stays, 1),
    }
}

fn previous(chars: &[char], at: usize) -> Option<char> {
    at.checked_sub(1).map(|before| chars[before])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        split(text).0.join("\n")
    }

    #[test]
    fn comments_and_strings_leave_the_code() {
        assert_eq!(code("a(); // b \"c\"\nd();"), "a(); \nd();");
        assert_eq!(code("a /* b /* c */ d */ e"), "a  e");
        assert_eq!(code(r#"let a = "b \" // c"; d"#), "let a = \"\"; d");
        assert_eq!(code(r##"let a = br#"b " // c"#; d"##), "let a = br\"\"; d");
        assert_eq!(code("let a = \"b\n// c\"; d"), "let a = \"\n\"; d");
        assert_eq!(split("a // b\n/* c\nd */").1, [" b", " c", "d "]);
    }

    #[test]
    fn characters_and_lifetimes_are_told_apart() {
        assert_eq!(code("f('\"', '\\'', '\\u{1f}') // x"), "f(' ', ' ', ' ') ");
        assert_eq!(code("fn f<'a>(b: &'a str) {} // x"), "fn f<'a>(b: &'a str) {} ");
        assert_eq!(code("for r in 0..1 {} // x"), "for r in 0..1 {} ");
    }

    #[test]
    fn words_stand_alone() {
        assert_eq!(find_word("forbid(unsafe_code) unsafe {", "unsafe"), Some(20));
        assert_eq!(find_word("forbid(unsafe_code)", "unsafe"), None);
    }

    #[test]
    fn the_test_module_is_not_shipped() {
        let source = Source::new("a/src/b.rs", "//! b\nfn f() {}\n#[cfg(test)]\nmod tests {\n}\n");
        assert_eq!(source.shipped_code().count(), 2);
        assert_eq!(source.all_code().count(), 5);
        for path in ["a/tests/b.rs", "bench/peers/a/src/b.rs"] {
            let source = Source::new(path, "//! b\nfn f() {}\n");
            assert_eq!(source.shipped_code().count(), 0);
        }
    }
}
