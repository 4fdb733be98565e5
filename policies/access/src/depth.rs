//! How deep a policy can be, and the stack that reading and evaluating it takes.
//!
//! Cedar's parser, validator and evaluator call themselves for each level of an expression. Where the stack ends, the
//! parser ends the process, the validator finds nothing wrong, and the evaluator gives up: what a policy says would
//! depend on the thread. So a policy is bounded before it is parsed, and everything runs with stack for its depth.

/// Most signs of one policy: brackets, dots, operators and `if`. No expression is deeper than it has signs. A policy
/// of forty comparisons stays below; lists of names do not count, however long they are.
pub const MAX_SIGNS: usize = 256;

/// Stack for one level, in bytes: about 50 KiB were measured for the parser without optimisation, as it goes through
/// a function for each rank of operators.
const LEVEL: usize = 96 << 10;
/// Stack for what has no levels, in bytes.
const BASE: usize = 512 << 10;

/// The policy with most signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Deepest {
    pub(crate) signs: usize,
    /// Where the policy begins, as a byte offset: after the one before it.
    pub(crate) start: usize,
}

/// Runs `work` with stack for expressions of so many signs: on this thread's own where it has that much.
pub(crate) fn with_stack<R>(signs: usize, work: impl FnOnce() -> R) -> R {
    let needed = BASE + signs.min(MAX_SIGNS) * LEVEL;
    stacker::maybe_grow(needed, needed, work)
}

/// Counts the signs of each policy of a text, parsed or not.
pub(crate) fn deepest(text: &str) -> Deepest {
    let mut deepest = Deepest::default();
    let mut current = Deepest::default();
    let mut word = String::new();
    let mut rest = text.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        let in_word = c.is_alphanumeric() || c == '_';
        if in_word {
            word.push(c);
        } else {
            current.signs += usize::from(word == "if");
            word.clear();
        }
        match c {
            '"' => skip_text(&mut rest),
            '/' if rest.peek().is_some_and(|(_, c)| *c == '/') => {
                // As Cedar reads it, a carriage return ends a comment too.
                while rest.next().is_some_and(|(_, c)| !matches!(c, '\n' | '\r')) {}
            }
            ';' => current = Deepest { signs: 0, start: at + 1 },
            ',' | ':' | '@' | '?' => {}
            c => current.signs += usize::from(!in_word && !c.is_whitespace()),
        }
        if current.signs > deepest.signs {
            deepest = current;
        }
    }
    deepest
}

/// Goes on after the end of a text in quotes; a backslash takes the meaning of what follows.
fn skip_text(rest: &mut impl Iterator<Item = (usize, char)>) {
    while let Some((_, c)) = rest.next() {
        match c {
            '\\' => drop(rest.next()),
            '"' => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_counted_outside_texts_and_comments() {
        for (text, signs) in [
            ("", 0),
            ("permit (principal, action, resource);", 2),
            ("permit (principal, action, resource); // ((((((", 2),
            ("@id(\"a-(((\") permit (principal, action, resource) when { context.gpus > 1 };", 8),
            ("a // ((\r((", 2),
            ("a // ((\n((", 2),
            ("a && b; ((c))", 4),
            ("if a then b else if iffy then c else d", 2),
            ("[\"a\", \"b\", \"c\"]", 2),
            ("\"\\\"(((\" (", 1),
            ("\"((", 0),
        ] {
            assert_eq!(deepest(text).signs, signs, "{text}");
        }
        assert_eq!(deepest("a; ((;(").start, 2);
    }

    #[test]
    fn stack_is_there_for_the_deepest() {
        let on_a_small_stack = std::thread::Builder::new().stack_size(128 << 10).spawn(|| {
            with_stack(MAX_SIGNS, || stacker::remaining_stack().is_none_or(|bytes| bytes > MAX_SIGNS * LEVEL))
        });
        assert!(on_a_small_stack.unwrap().join().unwrap());
    }
}
