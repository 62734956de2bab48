//! Tokens to a condition, with what is wrong at its place.

mod comparison;
mod operand;

use super::lexer::{self, Kind, Token};
use super::{Condition, ConditionError, Operand};
use std::ops::Range;

/// How deep parentheses and `not` may stand in each other.
pub const MAX_DEPTH: usize = 64;

/// Reads a condition.
///
/// # Errors
/// Fails with every mistake, in order of place, and nothing that only follows from an earlier one.
pub fn parse(text: &str) -> Result<Condition, Vec<ConditionError>> {
    let lexed = lexer::read(text);
    if lexed.damaged {
        return Err(lexed.errors);
    }
    let mut parser =
        Parser { text, tokens: lexed.tokens, next: 0, depth: 0, stopped: false, errors: lexed.errors };
    match parser.whole() {
        Some(condition) if parser.errors.is_empty() => Ok(condition),
        _ => {
            parser.errors.sort_by_key(|error| error.at.start);
            Err(parser.errors)
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
    /// Whether reading was given up, so that nothing more is to be said.
    stopped: bool,
    errors: Vec<ConditionError>,
}

/// An operand and its bytes.
type Side = (Operand, Range<usize>);

impl Parser<'_> {
    fn whole(&mut self) -> Option<Condition> {
        if self.tokens.is_empty() {
            let help = "write a comparison, such as `len(text) > 10`";
            self.fail(0..self.text.len(), "the condition is empty", "compares nothing", help);
            return None;
        }
        let mut condition = self.or();
        while let Some(token) = self.peek().cloned() {
            condition = None;
            self.surplus(&token);
            self.next += 1;
            self.recover();
            if self.takes(&Kind::And) || self.takes(&Kind::Or) {
                self.or();
            }
        }
        condition
    }

    fn or(&mut self) -> Option<Condition> {
        self.joined(&Kind::Or, Self::and).map(|parts| one_or(parts, Condition::Or))
    }

    fn and(&mut self) -> Option<Condition> {
        self.joined(&Kind::And, Self::not).map(|parts| one_or(parts, Condition::And))
    }

    /// Reads all parts, so that the mistakes of each are found.
    fn joined(
        &mut self,
        between: &Kind,
        part: impl Fn(&mut Self) -> Option<Condition>,
    ) -> Option<Vec<Condition>> {
        let mut parts = vec![part(self)];
        while self.takes(between) {
            parts.push(part(self));
        }
        parts.into_iter().collect()
    }

    fn not(&mut self) -> Option<Condition> {
        match self.peek().map(|token| token.kind.clone()) {
            Some(Kind::Not) => self.deeper(|parser| {
                parser.next += 1;
                parser.not().map(|inner| Condition::Not(Box::new(inner)))
            }),
            Some(Kind::Open) => self.deeper(Self::group),
            _ => {
                let condition = self.comparison();
                if condition.is_none() {
                    self.recover();
                }
                condition
            }
        }
    }

    fn group(&mut self) -> Option<Condition> {
        let open = self.take()?.at;
        let condition = self.or();
        if self.takes(&Kind::Close) {
            return condition;
        }
        // A mistake inside may have taken what closes it.
        if condition.is_some() {
            match self.peek().cloned() {
                None => self.fail(open, "this `(` is not closed", "no `)` follows", "close it with `)`"),
                Some(token) => self.surplus(&token),
            }
        }
        self.leave();
        None
    }

    /// Goes on after the `)` of what is open.
    fn leave(&mut self) {
        let mut open = 1;
        while open > 0
            && let Some(token) = self.take()
        {
            match token.kind {
                Kind::Open => open += 1,
                Kind::Close => open -= 1,
                _ => {}
            }
        }
    }

    fn deeper(&mut self, read: impl Fn(&mut Self) -> Option<Condition>) -> Option<Condition> {
        if self.depth == MAX_DEPTH {
            let at = self.peek().map_or(0..0, |token| token.at.clone());
            let message = format!("the condition is nested more than {MAX_DEPTH} deep");
            self.fail(at, message, "too deep", "remove parentheses and `not` around it");
            self.stopped = true;
            self.next = self.tokens.len();
            return None;
        }
        self.depth += 1;
        let condition = read(self);
        self.depth -= 1;
        condition
    }

    /// Goes on after a mistake, at what can only stand between two comparisons.
    fn recover(&mut self) {
        let mut open = 0;
        while let Some(token) = self.peek() {
            match token.kind {
                Kind::And | Kind::Or if open == 0 => return,
                Kind::Close if open == 0 => return,
                Kind::Open => open += 1,
                Kind::Close => open -= 1,
                _ => {}
            }
            self.next += 1;
        }
    }

    /// What follows a condition that is complete.
    fn surplus(&mut self, token: &Token) {
        let written = self.slice(&token.at).to_owned();
        if token.kind == Kind::Close {
            self.fail(token.at.clone(), "this `)` closes nothing", "no `(` before it", "remove it");
        } else {
            let message = format!("`{written}` follows a whole condition");
            let help = "join two conditions with `and` or `or`";
            self.fail(token.at.clone(), message, "`and` or `or` before this", help);
        }
    }

    fn fail(
        &mut self,
        at: Range<usize>,
        message: impl Into<String>,
        label: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.report(ConditionError::new(at, message, label, help));
    }

    fn report(&mut self, error: ConditionError) {
        if !self.stopped {
            self.errors.push(error);
        }
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.next).cloned();
        self.next += usize::from(token.is_some());
        token
    }

    fn takes(&mut self, kind: &Kind) -> bool {
        let is_next = self.peek().is_some_and(|token| token.kind == *kind);
        self.next += usize::from(is_next);
        is_next
    }

    /// Returns the bytes of the token before the next one.
    fn before(&self) -> Range<usize> {
        self.next.checked_sub(1).map_or(0..0, |at| self.tokens[at].at.clone())
    }

    fn slice(&self, at: &Range<usize>) -> &str {
        &self.text[at.clone()]
    }
}

/// Returns the only part as it is, else all of them joined.
fn one_or(mut parts: Vec<Condition>, join: impl Fn(Vec<Condition>) -> Condition) -> Condition {
    if parts.len() == 1 { parts.remove(0) } else { join(parts) }
}
