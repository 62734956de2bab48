//! Rules about models and tokenizers.

use super::Context;
use super::data::{row_type, row_type_slot};
use super::{saved, sources};
use crate::capability::Missing;
use crate::diagnostic::Diagnostic;
use crate::facts::{ModelFact, Want};
use crate::paths;
use crate::source::{Origin, Span, Spanned};
use crate::suggest;
use crate::tree::{Item, Slot};
use crate::values::Typed;
use serde_json::Value as Json;
use std::collections::BTreeSet;
use stdlib::schema::{self, Architecture, FieldType, Status};

/// The byte alphabet.
const BYTES: usize = 256;

/// Special tokens that every trained tokenizer has.
const BUILT_IN: [&str; 3] = ["<s>", "</s>", "<pad>"];

/// Checks one model.
pub fn check(context: &mut Context, item: &Item) {
    let Some(source) = item.argument() else { return };
    let Some(text) = source.text().filter(|_| sources::check(context, item, source)) else { return };
    if paths::is_remote(text) {
        check_remote(context, item, source);
        return;
    }
    refuse_revision(context, item);
    match text.strip_prefix("new:") {
        Some(name) => check_new(context, item, source, name),
        None => check_folder(context, item, source, text),
    }
}

/// `revision` belongs to what comes from the hub.
fn refuse_revision(context: &mut Context, item: &Item) {
    let Some(revision) = item.property("revision") else { return };
    let message = format!("`revision` has no effect on a local {}", item.kind());
    context.report(
        Diagnostic::error("ineffective-option", message, revision.key, "changes nothing here")
            .with_help("remove it"),
    );
}

/// A model from scratch needs its shape and its tokenizer.
fn check_new(context: &mut Context, item: &Item, source: &Slot, name: &str) {
    let Some(architecture) = schema::architecture(name) else {
        let names: Vec<String> =
            schema::ARCHITECTURES.iter().map(|known| format!("new:{}", known.name)).collect();
        let found = unsupported(name, source.span);
        let known = schema::ARCHITECTURES.iter().map(|known| known.name);
        context.report(match suggest::nearest(name, known) {
            Some(near) => found.with_help(format!("did you mean `new:{near}`?")),
            None => {
                found.with_help(format!("write {}", suggest::list(names.iter().map(String::as_str), "or")))
            }
        });
        return;
    };
    for child in ["config", "tokenizer"] {
        if item.child(child).is_none() && !item.damaged {
            let message = format!("a model from scratch lacks `{child}`");
            context.report(
                Diagnostic::error("missing-option", message, item.at, format!("needs `{child}`"))
                    .with_label(source.span, "from scratch")
                    .with_help(format!("write `{child}` in its block")),
            );
        }
    }
    note_architecture(context, item, source, architecture);
    if let Some(config) = item.child("config") {
        check_fields(context, config, architecture);
        refuse_vocab_size(context, config);
        check_shape(context, config, architecture, None);
    }
}

fn unsupported(name: &str, at: Span) -> Diagnostic {
    Diagnostic::error(
        "unsupported-architecture",
        format!("this version has no architecture `{name}`"),
        at,
        "not supported",
    )
}

fn refuse_vocab_size(context: &mut Context, config: &Item) {
    if let Some((name, _)) = config.config.iter().find(|(name, _)| name.value == "vocab_size") {
        context.report(
            Diagnostic::error(
                "ineffective-option",
                "`vocab_size` follows from the tokenizer",
                name.span,
                "changes nothing here",
            )
            .with_help("remove it, and give the tokenizer the size that is wanted"),
        );
    }
}

/// An architecture that is known but not built.
fn note_architecture(context: &mut Context, item: &Item, source: &Slot, architecture: &'static Architecture) {
    if architecture.status == Status::Later {
        let missing = Missing::new(format!("the architecture `{}`", architecture.name), source.span);
        let built = schema::ARCHITECTURES.iter().filter(|known| known.status == Status::Built);
        let help = format!("choose a model of {}", suggest::list(built.map(|known| known.name), "or"));
        context.later.push((item.declared().to_owned(), missing.instead(help)));
    }
}

/// A model that lies elsewhere: what the lock file tells of it.
fn check_remote(context: &mut Context, item: &Item, source: &Slot) {
    let Some(key) = context.source_key(item) else { return };
    let Some(fact) = context.facts.models.get(&key) else {
        context.wants.push(Want::Model(key));
        return;
    };
    check_known(context, item, source, fact);
}

fn check_folder(context: &mut Context, item: &Item, source: &Slot, text: &str) {
    let path = context.resolve(item, text);
    if !context.is_there(&path, source.span, false) {
        return;
    }
    let Some(fact) = context.facts.models.get(&path) else {
        context.wants.push(Want::Model(path));
        return;
    };
    if let Some(file) = &fact.pickled {
        let message = format!("the weights of `{path}` are pickled, as in `{file}`, and are not read");
        context.report(
            Diagnostic::error("unsafe-weights", message, source.span, "has no safetensors")
                .with_note("reading a pickle runs whatever code is in it")
                .with_help("save them as safetensors with the tool that wrote them, or name a folder that has them so"),
        );
        return;
    }
    if let Some(problem) = &fact.problem {
        let message = format!("`{path}` cannot be used as a model: {problem}");
        context.report(
            Diagnostic::error("broken-model", message, source.span, "not a usable model folder")
                .with_help("name a Hugging Face folder with config.json, safetensors and tokenizer.json"),
        );
        return;
    }
    check_known(context, item, source, fact);
}

/// What config.json tells.
fn check_known(context: &mut Context, item: &Item, source: &Slot, fact: &ModelFact) {
    let name = fact.config.get("model_type").and_then(Json::as_str).unwrap_or("unknown");
    let is_remote = source.text().is_some_and(paths::is_remote);
    let Some(architecture) = schema::architecture(name) else {
        // That it cannot be run is said already; what it holds is not known.
        if is_remote {
            return;
        }
        let of = |status| {
            let known = schema::ARCHITECTURES.iter().filter(move |known| known.status == status);
            suggest::list(known.map(|known| known.name), "and")
        };
        let (runs, plans) = (of(Status::Built), of(Status::Later));
        let known = format!("this version runs {runs}, and checks and plans {plans}");
        let help = format!("choose a model of another architecture; {known}");
        context.report(unsupported(name, source.span).with_help(help));
        return;
    };
    if !is_remote {
        note_architecture(context, item, source, architecture);
    }
    if let Some(config) = item.child("config") {
        check_fields(context, config, architecture);
        if saved::check(context, config, source, architecture, fact) {
            check_shape(context, config, architecture, Some(&fact.config));
        }
    }
    check_vocabulary(context, item, fact);
}

/// Fields that config.json of the architecture does not have, or of another type.
fn check_fields(context: &mut Context, config: &Item, architecture: &'static Architecture) {
    for (name, value) in &config.config {
        match architecture.fields.iter().find(|field| field.name == name.value) {
            None => context.report(unknown_field(name, architecture)),
            Some(field) => {
                if let Some(wanted) = misfit(&value.value, field.ty) {
                    let message = format!("`{}` wants {wanted}", name.value);
                    context.report(
                        Diagnostic::error("wrong-type", message, value.span, format!("not {wanted}"))
                            .with_help(format!("write {wanted}")),
                    );
                }
            }
        }
    }
}

/// Says what a field wants when the value is not of its type.
fn misfit(value: &Json, ty: FieldType) -> Option<&'static str> {
    let (fits, wanted) = match ty {
        FieldType::Integer => (value.as_u64().is_some() || value.is_null(), "a whole number"),
        FieldType::Number => (value.is_number(), "a number"),
        FieldType::Bool => (value.is_boolean(), "`#true` or `#false`"),
        FieldType::Text => (value.is_string(), "a text"),
        FieldType::Any => (true, ""),
    };
    (!fits).then_some(wanted)
}

fn unknown_field(name: &Spanned<String>, architecture: &'static Architecture) -> Diagnostic {
    let message = format!("config.json of a {} has no field `{}`", architecture.name, name.value);
    let diagnostic = Diagnostic::error("unknown-config-field", message, name.span, "no such field");
    match suggest::nearest(&name.value, architecture.fields.iter().map(|field| field.name)) {
        // Of `--set` the place is the value's, since the name stands in a path.
        Some(near) if name.origin == Origin::Set => diagnostic.with_help(format!("did you mean `{near}`?")),
        Some(near) => suggest::offer(diagnostic, &name.value, near, name.span, ""),
        None => diagnostic.with_help("write the field as config.json names it"),
    }
}

/// Sizes must not be 0, and some must divide others.
fn check_shape(
    context: &mut Context,
    config: &Item,
    architecture: &'static Architecture,
    base: Option<&Json>,
) {
    let sizes = [architecture.hidden, architecture.heads, architecture.kv_heads, architecture.positions];
    for (name, value) in &config.config {
        if sizes.contains(&name.value.as_str()) && value.value.as_u64() == Some(0) {
            let message = format!("`{}` is 0", name.value);
            context.report(
                Diagnostic::error("out-of-range", message, value.span, "too small")
                    .with_help("write a number of at least 1"),
            );
            return;
        }
    }
    let value = |name: &str| {
        let written = config.config.iter().find(|(field, _)| field.value == name);
        let from_base = || base.and_then(|base| base.get(name)).and_then(Json::as_u64);
        written.map_or_else(from_base, |(_, value)| value.value.as_u64())
    };
    let heads = value(architecture.heads);
    if value("head_dim").is_none() {
        check_divides(
            context,
            config,
            (architecture.hidden, value(architecture.hidden)),
            (architecture.heads, heads),
        );
    }
    check_divides(
        context,
        config,
        (architecture.heads, heads),
        (architecture.kv_heads, value(architecture.kv_heads)),
    );
}

fn check_divides(
    context: &mut Context,
    config: &Item,
    whole: (&str, Option<u64>),
    part: (&str, Option<u64>),
) {
    let ((whole, Some(a)), (part, Some(b))) = (whole, part) else { return };
    if b == 0 || a % b == 0 {
        return;
    }
    let written = config.config.iter().filter(|(name, _)| name.value == whole || name.value == part);
    let mut places: Vec<Span> = written.map(|(_, value)| value.span).collect();
    let Some(last) = places.pop() else { return };
    let message = format!("`{whole}` is {a}, which `{part}`, {b}, does not divide");
    let diagnostic = Diagnostic::error("contradictory-config", message, last, "does not fit")
        .with_help(format!("choose `{whole}` as a multiple of `{part}`"));
    context
        .report(places.into_iter().fold(diagnostic, |diagnostic, at| diagnostic.with_label(at, "and this")));
}

/// A tokenizer must not have more ids than the model has rows.
fn check_vocabulary(context: &mut Context, item: &Item, fact: &ModelFact) {
    let Some(reference) = item.child_argument("tokenizer") else { return };
    let Some(tokenizer) = reference.text().and_then(|name| context.names.find(name)) else { return };
    let Some(rows) = fact.config.get("vocab_size").and_then(Json::as_u64) else { return };
    let Some(ids) = vocabulary(context, tokenizer).filter(|ids| *ids > rows) else { return };
    let message = format!(
        "tokenizer `{}` has {ids} ids, but model `{}` has {rows} rows",
        tokenizer.declared(),
        item.declared()
    );
    context.report(
        Diagnostic::error("vocabulary-mismatch", message, reference.span, format!("{ids} ids"))
            .with_label(item.argument().map_or(item.at, |source| source.span), format!("{rows} rows"))
            .with_help("use a tokenizer of the model's size; another vocabulary needs new embeddings"),
    );
}

/// Returns the number of ids of a tokenizer, when it is known.
pub fn vocabulary(context: &Context, tokenizer: &Item) -> Option<u64> {
    if let Some(train) = tokenizer.child("train") {
        return train.property("vocab").and_then(Slot::number).map(|ids| ids as u64);
    }
    let fact = context.facts.tokenizers.get(&context.source_key(tokenizer)?)?;
    fact.problem.is_none().then_some(fact.vocab_size)
}

/// Checks one tokenizer.
pub fn check_tokenizer(context: &mut Context, item: &Item) {
    match (item.argument(), item.child("train")) {
        (Some(source), Some(train)) => context.report(
            Diagnostic::error(
                "conflicting-options",
                "a tokenizer is read or trained, not both",
                train.at,
                "the second",
            )
            .with_label(source.span, "the first")
            .with_help("keep one of them"),
        ),
        (None, None) if !item.damaged && item.arguments.is_empty() => context.report(
            Diagnostic::error(
                "missing-option",
                "this tokenizer has no source",
                item.at,
                "needs a path or `train`",
            )
            .with_help("write a path after its name, or `train bpe` in its block"),
        ),
        (None, None) => {}
        (None, Some(train)) => check_trained(context, train),
        (Some(source), None) => check_tokenizer_source(context, item, source),
    }
}

/// A tokenizer is trained on text.
fn check_trained(context: &mut Context, train: &Item) {
    check_special(context, train);
    check_room(context, train);
    let Some(on) = train.property("on") else { return };
    let Some(data) = on.text().and_then(|name| context.names.find(name)) else { return };
    let Some(rows) = row_type_slot(context.names, data) else { return };
    let Some(kind) = row_type(context.names, data).filter(|kind| *kind != "text") else { return };
    let message = format!("a tokenizer is trained on text rows, but `{}` has {kind} rows", data.declared());
    context.diagnostics.push(
        Diagnostic::error("wrong-row-type", message, on.span, "text rows are needed")
            .with_label(rows.span, format!("{kind} rows declared here"))
            .with_help("name a dataset with `rows text`"),
    );
}

/// The vocabulary has room for the bytes and the special tokens.
fn check_room(context: &mut Context, train: &Item) {
    let Some(vocab) = train.property("vocab") else { return };
    let by_bytes = train.child_argument("byte-level").is_some_and(|on| on.value == Typed::Bool(true));
    let special: BTreeSet<&str> =
        train.children_of("special").flat_map(|child| &child.arguments).filter_map(Slot::text).collect();
    let own = BUILT_IN.iter().filter(|token| !special.contains(*token)).count();
    let least = BYTES + own + special.len();
    if by_bytes && vocab.number().is_some_and(|ids| ids < least as f64) {
        let message = format!("{BYTES} bytes and {} special tokens need more ids", least - BYTES);
        context.report(
            Diagnostic::error("vocabulary-too-small", message, vocab.span, "too few")
                .with_help(format!("write `vocab={least}` or more")),
        );
    }
}

fn check_special(context: &mut Context, train: &Item) {
    let tokens: Vec<&Slot> = train.children_of("special").flat_map(|child| &child.arguments).collect();
    for (at, token) in tokens.iter().enumerate() {
        if let Some(first) = tokens[..at].iter().find(|first| first.text() == token.text()) {
            let message = format!("the special token `{}` stands twice", token.text().unwrap_or_default());
            context.report(
                Diagnostic::error("repeated-option", message, token.span, "the second")
                    .with_label(first.span, "the first")
                    .with_help("keep one of them"),
            );
        }
    }
}

fn check_tokenizer_source(context: &mut Context, item: &Item, source: &Slot) {
    let Some(text) = source.text().filter(|_| sources::check(context, item, source)) else { return };
    if paths::is_remote(text) {
        let known = context.source_key(item).filter(|key| !context.facts.tokenizers.contains_key(key));
        context.wants.extend(known.map(Want::Tokenizer));
        return;
    }
    refuse_revision(context, item);
    let path = context.resolve(item, text);
    if !context.is_there(&path, source.span, false) {
        return;
    }
    match context.facts.tokenizers.get(&path).map(|fact| &fact.problem) {
        None => context.wants.push(Want::Tokenizer(path)),
        Some(Some(problem)) => {
            let message = format!("`{path}` cannot be used as a tokenizer: {problem}");
            context.report(
                Diagnostic::error("broken-tokenizer", message, source.span, "not a usable tokenizer")
                    .with_help("name a tokenizer.json or a folder that has one"),
            );
        }
        Some(None) => {}
    }
}
