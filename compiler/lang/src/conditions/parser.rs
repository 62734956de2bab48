//! Tokens to a condition, with what is wrong at its place.

use super::lexer::{self, Kind, Token};
use super::print::quoted;
use super::{Column, Comparison, Condition, ConditionError, Literal, Operand, Pattern};
use crate::suggest;
use std::ops::Range;

/// How deep parentheses and `not` may stand in each other.
pub const MAX_DEPTH: usize = 64;

/// Words of other languages that have no value here.
const NULLS: [&str; 6] = ["null", "NULL", "none", "None", "nil", "undefined"];

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

/// Functions of other languages with what they are here.
const FUNCTIONS: [(&str, &str); 8] = [
    ("length", "len"),
    ("LENGTH", "len"),
    ("size", "len"),
    ("char_length", "len"),
    ("count", "len"),
    ("strlen", "len"),
    ("word_count", "words"),
    ("num_words", "words"),
];

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

    fn comparison(&mut self) -> Option<Condition> {
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

    fn operand(&mut self) -> Option<Side> {
        let Some(token) = self.peek().cloned() else {
            let at = self.before();
            let message = format!("`{}` is followed by nothing", self.slice(&at));
            self.fail(at, message, "the condition stops here", "write what belongs after it, or remove it");
            return None;
        };
        match token.kind {
            Kind::Value(value) => {
                self.next += 1;
                Some((Operand::Value(value), token.at))
            }
            Kind::Word(word) => {
                self.next += 1;
                if self.peek().is_some_and(|next| next.kind == Kind::Open) {
                    return self.function(&word, token.at);
                }
                self.column(word, token.at)
            }
            Kind::OpenList => {
                let help = "write `in` before the list, and the column before that";
                self.fail(token.at, "a list stands only after `in`", "not expected here", help);
                None
            }
            Kind::Close if self.depth == 0 => {
                self.surplus(&token);
                self.next += 1;
                None
            }
            _ => {
                let message = format!("a column or a value is missing before `{}`", self.slice(&token.at));
                self.fail(token.at, message, "not expected here", "write a column or a value before it");
                None
            }
        }
    }

    fn column(&mut self, word: String, at: Range<usize>) -> Option<Side> {
        let lower = word.to_lowercase();
        if NULLS.contains(&word.as_str()) {
            let message = format!("nothing compares with `{word}`, since null compares false");
            let help = "write `len(COLUMN) > 0` for rows that have a text there";
            self.fail(at, message, "no value", help);
            return None;
        }
        if matches!(lower.as_str(), "true" | "false") {
            let message = format!("`{word}` is written in small letters");
            let error =
                ConditionError::new(at, message, "neither column nor value", format!("write `{lower}`"));
            self.report(error.or_rather(lower));
            return None;
        }
        Some((Operand::Column(Column { path: word, at: at.clone() }), at))
    }

    /// Reads `len(…)` or `words(…)`; its parenthesis is next.
    fn function(&mut self, name: &str, at: Range<usize>) -> Option<Side> {
        if !matches!(name, "len" | "words") {
            self.unknown_function(name, at);
            return None;
        }
        self.next += 1;
        let column = self.peek().cloned();
        let Some(Token { kind: Kind::Word(path), at: inner }) = column else {
            let place = column.map_or(at, |token| token.at);
            let help = format!("write the name of a column, without quotes, between `{name}(` and `)`");
            self.fail(place, format!("`{name}` takes a column"), "not a column", help);
            self.leave();
            return None;
        };
        self.next += 1;
        let close = self.peek().cloned();
        let Some(Token { kind: Kind::Close, at: end }) = close else {
            let place = close.map_or(inner, |token| token.at);
            let message = format!("`{name}` takes one column");
            self.fail(place, message, "`)` is missing", format!("write `{name}({path})`"));
            self.leave();
            return None;
        };
        self.next += 1;
        let column = Column { path, at: inner };
        let operand = if name == "len" { Operand::Length(column) } else { Operand::Words(column) };
        Some((operand, at.start..end.end))
    }

    fn unknown_function(&mut self, name: &str, at: Range<usize>) {
        let known = FUNCTIONS.into_iter().find(|(foreign, _)| *foreign == name).map(|(_, ours)| ours);
        let message = format!("there is no function `{name}`");
        let method = name.rsplit_once('.').filter(|(_, last)| known_function(last).is_some());
        let error = match (known.or(suggest::nearest(name, ["len", "words"])), method) {
            (Some(near), _) => {
                let help = format!("did you mean `{near}`?");
                ConditionError::new(at, message, "no such function", help).or_rather(near)
            }
            (None, Some((column, last))) => {
                let near = known_function(last).unwrap_or("len");
                ConditionError::new(at, message, "no such function", format!("write `{near}({column})`"))
            }
            (None, None) => {
                let help = "compare the column itself; the functions are `len` and `words`";
                ConditionError::new(at, message, "no such function", help)
            }
        };
        self.report(error);
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

    fn misplaced_not(&mut self, left: &Side, not: &Token) {
        let following = self.tokens.get(self.next + 1).map(|token| self.slice(&token.at).to_owned());
        let operand = self.slice(&left.1);
        let help = format!("write `not {operand} {} …`", following.as_deref().unwrap_or("in"));
        self.fail(not.at.clone(), "`not` stands before the whole comparison", "not here", help);
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

fn known_function(name: &str) -> Option<&'static str> {
    let own = ["len", "words"].into_iter().find(|own| *own == name);
    own.or_else(|| FUNCTIONS.into_iter().find(|(foreign, _)| *foreign == name).map(|(_, ours)| ours))
}

/// Returns the only part as it is, else all of them joined.
fn one_or(mut parts: Vec<Condition>, join: impl Fn(Vec<Condition>) -> Condition) -> Condition {
    if parts.len() == 1 { parts.remove(0) } else { join(parts) }
}
