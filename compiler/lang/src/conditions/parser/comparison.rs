//! One comparison: whether its sides, its sign and its list fit each other.

use super::{Kind, Parser, Side, Token};
use crate::conditions::print::quoted;
use crate::conditions::{Comparison, Condition, ConditionError, Literal, Operand, Pattern};
use crate::suggest;
use std::ops::Range;

/// Words of other languages that look for a part of a text.
const SEARCHES: [&str; 12] = [
    "like",
    "ilike",
    "LIKE",
    "ILIKE",
    "contains",
    "CONTAINS",
    "startswith",
    "endswith",
    "match",
    "regex",
    "rlike",
    "similar",
];

impl Parser<'_> {
    pub(super) fn comparison(&mut self) -> Option<Condition> {
        let left = self.operand()?;
        let Some(token) = self.peek().cloned() else {
            self.alone(&left);
            return None;
        };
        match token.kind {
            Kind::Operator(op) => {
                self.next += 1;
                self.compared(left, op)
            }
            Kind::In => {
                self.next += 1;
                self.listed(left, &token)
            }
            Kind::Matches => {
                self.next += 1;
                self.matched(left)
            }
            Kind::Not => {
                self.misplaced_not(&left, &token);
                None
            }
            Kind::Word(word) => {
                self.unknown_operator(&word, token.at);
                None
            }
            Kind::And | Kind::Or | Kind::Close => {
                self.alone(&left);
                None
            }
            Kind::Value(_) | Kind::Open | Kind::OpenList | Kind::CloseList | Kind::Comma => {
                let message = format!("`{}` is compared with nothing", self.slice(&left.1));
                self.fail(
                    token.at,
                    message,
                    "a comparison is missing before this",
                    "write `==`, `!=`, `<`, `<=`, `>`, `>=`, `in` or `matches` between them",
                );
                None
            }
        }
    }

    fn compared(&mut self, left: Side, op: Comparison) -> Option<Condition> {
        let right = self.operand()?;
        if let Some(Token { kind: Kind::Operator(next), at }) = self.peek().cloned() {
            let [a, b] = [&left.1, &right.1].map(|at| self.slice(at));
            let help = format!("write `{a} {op} {b} and {b} {next} …`");
            self.fail(at, "comparisons cannot be chained", "a second comparison", help);
            return None;
        }
        self.sound(&left, op, &right).then_some(())?;
        Some(Condition::Compare { left: left.0, op, right: right.0 })
    }

    /// Whether a comparison can hold for one row and not for another; reports when not.
    fn sound(&mut self, left: &Side, op: Comparison, right: &Side) -> bool {
        let whole = left.1.start..right.1.end;
        match (&left.0, &right.0) {
            (Operand::Value(_), Operand::Value(_)) => {
                let help = "name a column on one side; a text stands in quotes, a column does not";
                self.fail(whole, "two values are compared, and no column", "the same for every row", help);
                false
            }
            (Operand::Column(_), Operand::Column(column)) => {
                self.unquoted(&column.path, &right.1);
                false
            }
            (operand, Operand::Value(value)) => self.fits(operand, op, value, &right.1),
            (Operand::Value(value), operand) => self.fits(operand, op, value, &left.1),
            _ => true,
        }
    }

    /// Whether a value is of a kind that an operand can be compared with.
    fn fits(&mut self, operand: &Operand, op: Comparison, value: &Literal, at: &Range<usize>) -> bool {
        let written = self.slice(at).to_owned();
        let counts = matches!(operand, Operand::Length(_) | Operand::Words(_));
        match value {
            Literal::Text(text) if counts => {
                let number = text.parse::<i64>().ok().map(|number| number.to_string());
                let help = number
                    .as_ref()
                    .map_or_else(|| "write a number".to_owned(), |number| format!("write `{number}`"));
                let message = format!("`{operand}` is a number, and {written} is a text");
                let mut error = ConditionError::new(at.clone(), message, "a text", help);
                error.fix = number;
                self.report(error);
                false
            }
            Literal::Bool(_) if counts => {
                let message = format!("`{operand}` is a number, and `{written}` is none");
                self.fail(at.clone(), message, "not a number", "write a number");
                false
            }
            Literal::Bool(_) if op.is_order() => {
                let message = format!("`{op}` does not order `true` and `false`");
                self.fail(at.clone(), message, "has no order", "write `==` or `!=`");
                false
            }
            _ => true,
        }
    }

    fn listed(&mut self, left: Side, word: &Token) -> Option<Condition> {
        self.needs_column(&left)?;
        let Some(open) = self.peek().cloned() else {
            let help = "write the values after it, such as `in ['a', 'b']`";
            self.fail(word.at.clone(), "`in` is followed by nothing", "needs a list", help);
            return None;
        };
        if open.kind != Kind::OpenList {
            let help = "write the values between `[` and `]`, such as `in ['a', 'b']`";
            self.fail(open.at, "`in` needs a list", "not a list", help);
            return None;
        }
        self.next += 1;
        let values = self.values(&open.at)?;
        let mut fit = true;
        for (value, at) in &values {
            fit &= self.fits(&left.0, Comparison::Equal, value, at);
        }
        fit.then(|| Condition::In {
            operand: left.0,
            values: values.into_iter().map(|(value, _)| value).collect(),
        })
    }

    /// Reads the values of a list up to its `]`.
    fn values(&mut self, open: &Range<usize>) -> Option<Vec<(Literal, Range<usize>)>> {
        let mut values = Vec::new();
        let mut sound = true;
        loop {
            let token = self.take_or_unclosed(open)?;
            match token.kind {
                Kind::Value(value) => values.push((value, token.at)),
                Kind::Word(word) => {
                    sound = false;
                    self.unquoted_in_list(&word, token.at);
                }
                Kind::CloseList if values.is_empty() && sound => {
                    let help = "write the values in it, such as `in ['a', 'b']`";
                    self.fail(
                        open.start..token.at.end,
                        "the list is empty",
                        "no value equals one of it",
                        help,
                    );
                    return None;
                }
                _ => {
                    let message = format!("a list holds values, and `{}` is none", self.slice(&token.at));
                    self.fail(token.at, message, "not a value", "write numbers or quoted texts with commas");
                    return None;
                }
            }
            let token = self.take_or_unclosed(open)?;
            match token.kind {
                Kind::CloseList => return sound.then_some(values),
                Kind::Comma => {}
                _ => {
                    let help = "write a comma between two values";
                    self.fail(token.at, "a comma is missing in the list", "a comma before this", help);
                    return None;
                }
            }
        }
    }

    fn take_or_unclosed(&mut self, open: &Range<usize>) -> Option<Token> {
        let token = self.take();
        if token.is_none() {
            self.fail(open.clone(), "this `[` is not closed", "no `]` follows", "close it with `]`");
        }
        token
    }

    fn matched(&mut self, left: Side) -> Option<Condition> {
        self.needs_column(&left)?;
        let column = match left.0 {
            Operand::Column(column) => column,
            other => {
                let message = format!("`{other}` is a number, and `matches` looks into a text");
                let help = "write the column itself before `matches`";
                self.fail(left.1, message, "a number", help);
                return None;
            }
        };
        let Some(token) = self.peek().cloned() else {
            let at = self.before();
            let help = "write a regex in single quotes after it";
            self.fail(at, "`matches` is followed by nothing", "needs a regex", help);
            return None;
        };
        let Kind::Value(Literal::Text(text)) = token.kind else {
            let help = "write the regex in single quotes, such as `matches '^[a-z]'`";
            self.fail(token.at, "`matches` needs a regex", "not a quoted text", help);
            return None;
        };
        self.next += 1;
        let pattern = self.pattern(&text, &token.at)?;
        Some(Condition::Matches { column, pattern })
    }

    fn pattern(&mut self, text: &str, at: &Range<usize>) -> Option<Pattern> {
        match Pattern::new(text) {
            Ok(pattern) => Some(pattern),
            Err(fault) => {
                // A quote that is written twice shifts what follows it.
                let as_written = at.len() == text.len() + 2;
                let inner = fault.at.filter(|_| as_written);
                let place =
                    inner.map_or(at.clone(), |inner| at.start + 1 + inner.start..at.start + 1 + inner.end);
                let message = format!("the regex cannot be read: {}", fault.reason);
                let help = "correct the regex; `\\` before a sign takes it as it is";
                self.fail(place, message, "here", help);
                None
            }
        }
    }

    fn needs_column(&mut self, side: &Side) -> Option<()> {
        let Operand::Value(_) = side.0 else { return Some(()) };
        let message =
            format!("a column stands before `{}`, and {} is a value", self.slice(&self.before()), {
                self.slice(&side.1)
            });
        let help = "write a column, without quotes, before it";
        self.fail(side.1.clone(), message, "a value", help);
        None
    }

    /// An operand that nothing is compared with.
    fn alone(&mut self, side: &Side) {
        let written = self.slice(&side.1).to_owned();
        let help = match &side.0 {
            Operand::Column(_) => format!("write what it is compared with, such as `{written} == true`"),
            Operand::Length(_) | Operand::Words(_) => {
                format!("write what it is compared with, such as `{written} > 10`")
            }
            Operand::Value(_) => "write a column and how it compares, such as `len(text) > 10`".to_owned(),
        };
        let message = format!("`{written}` is compared with nothing");
        self.fail(side.1.clone(), message, "not a condition by itself", help);
    }

    fn misplaced_not(&mut self, left: &Side, not: &Token) {
        let following = self.tokens.get(self.next + 1).map(|token| self.slice(&token.at).to_owned());
        let operand = self.slice(&left.1);
        let help = format!("write `not {operand} {} …`", following.as_deref().unwrap_or("in"));
        self.fail(not.at.clone(), "`not` stands before the whole comparison", "not here", help);
    }

    fn unknown_operator(&mut self, word: &str, at: Range<usize>) {
        let message = format!("`{word}` compares nothing");
        if SEARCHES.contains(&word) {
            let help = "write `matches '…'` with a regex, which may occur anywhere in the text";
            self.fail(at, message, "not a comparison", help);
            return;
        }
        let meant = match word {
            "is" | "IS" | "eq" | "equals" => Some("=="),
            "ne" => Some("!="),
            "lt" => Some("<"),
            "le" => Some("<="),
            "gt" => Some(">"),
            "ge" => Some(">="),
            _ => suggest::nearest(word, ["matches", "and"]),
        };
        let help = match meant {
            Some(meant) => format!("write `{meant}`"),
            None => {
                "write one of `==`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `matches`, `and`, `or` before it".into()
            }
        };
        self.fail(at, message, "not a comparison", help);
    }

    fn unquoted(&mut self, word: &str, at: &Range<usize>) {
        let message = format!("two columns are compared, since `{word}` has no quotes");
        let help = format!("write `{}` for the text; a column is compared with values only", quoted(word));
        self.fail(at.clone(), message, "a column, not a text", help);
    }

    fn unquoted_in_list(&mut self, word: &str, at: Range<usize>) {
        let fix = quoted(word);
        let message = format!("`{word}` in the list has no quotes");
        let error = ConditionError::new(at, message, "not a value", format!("write `{fix}`"));
        self.report(error.or_rather(fix));
    }
}
