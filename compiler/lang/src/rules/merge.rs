//! Rules about `merge`: how many models a method takes, and which numbers it reads.

use super::Context;
use super::{ancestry, curves, shapes};
use crate::diagnostic::Diagnostic;
use crate::suggest;
use crate::tree::{Item, Slot};

/// What a method needs; papers and mergekit agree on it.
pub struct Method {
    pub name: &'static str,
    base: Base,
    /// The least and the most models that are merged, the base not counted.
    models: (usize, usize),
    pub weight: Use,
    pub density: Use,
    pub epsilon: Use,
    /// Whether changes are dropped at random.
    random: bool,
    /// Whether weights are divided by their sum unless `normalize` says otherwise.
    pub normalized: bool,
}

/// Whether a method starts from a common ancestor.
#[derive(PartialEq)]
enum Base {
    Needed,
    /// It is not among what is merged.
    Unused,
}

/// Whether a method reads a number of each model.
#[derive(Clone, Copy, PartialEq)]
pub enum Use {
    Needed,
    /// It has a default.
    Read,
    Unused,
}

const ANY: usize = usize::MAX;

const METHODS: [Method; 11] = [
    method("linear", Base::Unused, (2, ANY), [Use::Needed, Use::Unused, Use::Unused], false, true),
    method("slerp", Base::Needed, (1, 1), [Use::Unused, Use::Unused, Use::Unused], false, false),
    method("task-arithmetic", Base::Needed, (1, ANY), [Use::Needed, Use::Unused, Use::Unused], false, false),
    method("ties", Base::Needed, (2, ANY), [Use::Needed, Use::Read, Use::Unused], false, true),
    method("dare-linear", Base::Needed, (2, ANY), [Use::Needed, Use::Needed, Use::Unused], true, false),
    method("dare-ties", Base::Needed, (2, ANY), [Use::Needed, Use::Needed, Use::Unused], true, false),
    method("della", Base::Needed, (2, ANY), [Use::Needed, Use::Needed, Use::Read], true, true),
    method("della-linear", Base::Needed, (2, ANY), [Use::Needed, Use::Needed, Use::Read], true, false),
    method("breadcrumbs", Base::Needed, (2, ANY), [Use::Needed, Use::Read, Use::Unused], false, false),
    method("model-stock", Base::Needed, (2, ANY), [Use::Unused, Use::Unused, Use::Unused], false, false),
    method("passthrough", Base::Unused, (1, 1), [Use::Unused, Use::Unused, Use::Unused], false, false),
];

const fn method(
    name: &'static str,
    base: Base,
    models: (usize, usize),
    [weight, density, epsilon]: [Use; 3],
    random: bool,
    normalized: bool,
) -> Method {
    Method { name, base, models, weight, density, epsilon, random, normalized }
}

/// Checks a `merge` stage.
pub fn check(context: &mut Context, item: &Item) {
    let models: Vec<&Item> = item.children_of("from").collect();
    check_repeats(context, item, &models);
    if shapes::check(context, item, &models) {
        ancestry::check(context, item, &models);
    }
    let Some(written) = item.child_argument("method") else { return };
    let Some(method) = written.text().and_then(|name| METHODS.iter().find(|method| method.name == name))
    else {
        return;
    };
    check_base(context, item, written, method);
    check_count(context, item, written, method, &models);
    check_seed(context, item, written, method);
    for model in &models {
        check_numbers(context, written, method, model);
    }
    curves::check(context, item, method, &models);
}

/// A method has a common ancestor, or has none.
fn check_base(context: &mut Context, item: &Item, written: &Slot, method: &Method) {
    match (item.child("base"), &method.base) {
        (None, Base::Needed) if !item.damaged => context.report(
            Diagnostic::error(
                "missing-option",
                format!("`{}` needs a base", method.name),
                item.at,
                "needs `base`",
            )
            .with_label(written.span, "because of this method")
            .with_help("write `base NAME`: the model that the others come from"),
        ),
        // The tokenizer of a base may be what is wanted of it.
        (Some(base), Base::Unused) if !names_tokenizer_of_base(item) => context.report(
            Diagnostic::error(
                "ineffective-option",
                format!("`base` has no effect with `method {}`", method.name),
                base.at,
                "not merged",
            )
            .with_label(written.span, "because of this method")
            .with_help("remove it, or write it as `from`"),
        ),
        (Some(_) | None, _) => {}
    }
}

fn names_tokenizer_of_base(item: &Item) -> bool {
    item.child_argument("tokenizer").is_some_and(|slot| slot.is_written() && slot.text() == Some("base"))
}

/// Methods are made for a number of models.
fn check_count(context: &mut Context, item: &Item, written: &Slot, method: &Method, models: &[&Item]) {
    let base = item.child_argument("base").and_then(Slot::text);
    if base.is_none() && method.base == Base::Needed {
        return;
    }
    // What repeats the base is reported as that, or is how `slerp` is written elsewhere.
    let counted = |model: &&&Item| base.is_none() || model.word() != base;
    let models: Vec<&&Item> = models.iter().filter(counted).collect();
    let (least, most) = method.models;
    let wanted = match (least, most) {
        (1, 1) => "one model".to_owned(),
        (least, _) => format!("at least {least} models"),
    };
    let beside = if method.base == Base::Needed { " beside the base" } else { "" };
    let message = format!("`{}` merges {wanted}{beside}, not {}", method.name, models.len());
    if models.len() > most {
        context.report(
            Diagnostic::error("wrong-number-of-models", message, models[most].at, "one too many")
                .with_label(written.span, "because of this method")
                .with_help("remove it, or merge in several stages"),
        );
    } else if models.len() < least && !item.damaged && !models.is_empty() {
        context.report(
            Diagnostic::error("wrong-number-of-models", message, item.at, format!("needs {wanted}{beside}"))
                .with_label(written.span, "because of this method")
                .with_help("write another `from`, or choose another method"),
        );
    }
}

/// No model is merged with itself.
fn check_repeats(context: &mut Context, item: &Item, models: &[&Item]) {
    let base = item.child_argument("base");
    let is_slerp = item.child_argument("method").and_then(Slot::text) == Some("slerp");
    for (at, model) in models.iter().enumerate() {
        let Some(name) = model.argument() else { continue };
        let same = |first: &&Slot| first.text() == name.text();
        let first = models[..at].iter().filter_map(|first| first.argument()).find(same);
        let base = base.filter(same).filter(|_| !is_slerp);
        let Some((first, what)) =
            first.map(|first| (first, "the first")).or(base.map(|base| (base, "the base")))
        else {
            continue;
        };
        let message = format!("`{}` is merged with itself", name.text().unwrap_or_default());
        context.report(
            Diagnostic::error("repeated-option", message, name.span, "the second")
                .with_label(first.span, what)
                .with_help("keep one of them"),
        );
    }
}

/// A seed belongs to chance.
fn check_seed(context: &mut Context, item: &Item, written: &Slot, method: &Method) {
    let Some(seed) = item.child("seed").filter(|seed| seed.argument().is_some_and(Slot::is_written)) else {
        return;
    };
    if !method.random {
        context.report(
            Diagnostic::error(
                "ineffective-option",
                format!("`seed` has no effect with `method {}`", method.name),
                seed.at,
                "nothing is drawn",
            )
            .with_label(written.span, "because of this method")
            .with_help("remove it"),
        );
    }
}

/// Each number is read by the method, stated once, and stated where it is needed.
fn check_numbers(context: &mut Context, written: &Slot, method: &Method, model: &Item) {
    let uses = [("weight", method.weight), ("density", method.density), ("epsilon", method.epsilon)];
    for (name, needs) in uses {
        let property = model.properties.iter().find(|slot| slot.name == name).map(|slot| slot.key);
        let curve = model.child(name).map(|child| child.at);
        let mut places: Vec<_> = property.into_iter().chain(curve).collect();
        places.sort();
        match (places.as_slice(), needs) {
            ([], Use::Needed) if !model.damaged => context.report(
                Diagnostic::error(
                    "missing-option",
                    format!("`{}` needs a `{name}` for every model", method.name),
                    model.at,
                    format!("needs `{name}`"),
                )
                .with_label(written.span, "because of this method")
                .with_help(format!("write `{name}=…` after the model")),
            ),
            ([], _) => {}
            ([at, ..], Use::Unused) => context.report(
                Diagnostic::error(
                    "ineffective-option",
                    format!("`{name}` has no effect with `method {}`", method.name),
                    *at,
                    "changes nothing here",
                )
                .with_label(written.span, "because of this method")
                .with_help(format!("remove it; it belongs to {}", suggest::list(readers(name), "and"))),
            ),
            ([first, second, ..], _) => context.report(
                Diagnostic::error(
                    "conflicting-options",
                    format!("`{name}` is one number, and values over depth"),
                    *second,
                    "the second",
                )
                .with_label(*first, "the first")
                .with_help("keep one of them"),
            ),
            ([_], _) => {}
        }
    }
}

/// The methods that read a number.
fn readers(name: &str) -> Vec<&'static str> {
    let of = |method: &Method| match name {
        "weight" => method.weight,
        "density" => method.density,
        _ => method.epsilon,
    };
    METHODS.iter().filter(|method| of(method) != Use::Unused).map(|method| method.name).collect()
}
