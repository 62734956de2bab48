//! `parse`, `check` and `lower`: every diagnostic is sound, every fix fixes, and the same input yields the same.

use crate::outcome::{Features, Finding, note, sound, timed};
use crate::random::hash;
use crate::world::World;
use lang::diagnostic::{Diagnostic, Fix, Severity};
use lang::facts::Facts;
use lang::recipe::Recipe;
use lang::source::Source;
use lang::{Checked, Input, check};
use lower::{Lowered, Options, lower};
use std::borrow::Cow;

/// The recipe's path: facts are keyed by paths as seen from its folder.
const PATH: &str = "recipe.kdl";
/// Rounds of checking and filling facts.
const ROUNDS: usize = 4;
/// One input in so many is checked again, to see that the answer is the same.
const AGAIN: u64 = 4;
/// How far a fix may move the rest of what it does not fix.
const NEAR: u32 = 16;
/// Fixes that are tried of one input.
const FIXES: usize = 3;

pub fn run(input: &[u8], features: &mut Features) -> Result<(), Finding> {
    match std::str::from_utf8(input) {
        Ok(text) => of_text(text, &[], World::of(input), features),
        Err(_) => {
            let checked = timed(|| lang::not_utf8(PATH, input));
            checked.diagnostics.iter().try_for_each(|found| sound(found, &checked.sources))
        }
    }
}

/// Checks a text, with arguments of `--set`, and lowers it when nothing is wrong with it.
pub fn of_text(
    text: &str,
    sets: &[String],
    mut world: World,
    features: &mut Features,
) -> Result<(), Finding> {
    let input = Input { path: PATH, text, sets };
    let mut checked = timed(|| check(&input, &world.facts));
    for _ in 0..ROUNDS {
        if !world.fill(&checked.wants) {
            break;
        }
        checked = timed(|| check(&input, &world.facts));
    }
    if hash(text.as_bytes()).is_multiple_of(AGAIN) {
        same(&checked, &check(&input, &world.facts))?;
    }
    sound_check(&checked, text)?;
    checked.diagnostics.iter().for_each(|found| note(features, found));
    fixes(&checked, &input, &world.facts)?;
    if let Some(recipe) = &checked.recipe {
        note_recipe(features, &checked);
        lowered(recipe, &checked.sources, &mut world, features)?;
    }
    world.give_back();
    Ok(())
}

/// Whether a second check found the same.
fn same(one: &Checked, other: &Checked) -> Result<(), Finding> {
    let differs =
        |what: &str, detail: String| Err(Finding::new(format!("{what} differ when checked again"), detail));
    if one.diagnostics != other.diagnostics {
        return differs("diagnostics", format!("{:#?}\n{:#?}", one.diagnostics, other.diagnostics));
    }
    if one.wants != other.wants {
        return differs("wants", format!("{:?}\n{:?}", one.wants, other.wants));
    }
    if format!("{:?}", one.recipe) != format!("{:?}", other.recipe) {
        return differs("recipes", format!("{:#?}\n{:#?}", one.recipe, other.recipe));
    }
    if format!("{:?}", one.resolved) != format!("{:?}", other.resolved) {
        return differs("values", format!("{:#?}\n{:#?}", one.resolved, other.resolved));
    }
    Ok(())
}

fn sound_check(checked: &Checked, text: &str) -> Result<(), Finding> {
    if checked.sources[0].text.len() != text.len() {
        return Err(Finding::new("masking moved the text", ""));
    }
    for found in &checked.diagnostics {
        sound(found, &checked.sources)?;
        let own = found.labels.iter().map(|label| label.span).filter(|span| span.source.0 == 0);
        if own.into_iter().any(|span| text.get(span.start as usize..span.end as usize).is_none()) {
            return Err(Finding::new("a place that fits the masked text alone", format!("{found:#?}")));
        }
    }
    let places: Vec<_> = checked.diagnostics.iter().map(Diagnostic::primary).collect();
    if !places.is_sorted() {
        return Err(Finding::new("diagnostics are not sorted", format!("{:#?}", checked.diagnostics)));
    }
    let has_errors = checked.errors() > 0;
    if has_errors && checked.recipe.is_some() {
        return Err(Finding::new("a recipe in spite of errors", format!("{:#?}", checked.diagnostics)));
    }
    Ok(())
}

/// Applies fixes: what comes out can be checked, and a fix of the only diagnostic removes it.
fn fixes(checked: &Checked, input: &Input, facts: &Facts) -> Result<(), Finding> {
    let is_only = checked.diagnostics.len() == 1;
    let fixes = checked.diagnostics.iter().flat_map(|found| found.fixes.iter().map(move |fix| (found, fix)));
    for (found, fix) in fixes.take(FIXES) {
        let (text, sets, facts) = apply(fix, checked, input, facts)?;
        let again = timed(|| check(&Input { path: PATH, text: &text, sets: &sets }, &facts));
        sound_check(&again, &text)?;
        let (at, sentence) = (found.primary(), (&found.code, &found.message));
        let is_same = |other: &&Diagnostic| {
            let there = other.primary();
            let is_near = there.source == at.source && there.start.abs_diff(at.start) <= NEAR;
            is_near && (&other.code, &other.message) == sentence
        };
        if let Some(left) = again.diagnostics.iter().find(is_same).filter(|_| is_only) {
            let detail = format!("{found:#?}\nleaves\n{left:#?}\nin\n{text}");
            return Err(Finding::new(format!("a fix that does not fix: {}", found.code), detail));
        }
    }
    Ok(())
}

/// The texts of a check after a fix.
type Fixed<'a> = (String, Vec<String>, Cow<'a, Facts>);

fn apply<'a>(fix: &Fix, checked: &Checked, input: &Input, facts: &'a Facts) -> Result<Fixed<'a>, Finding> {
    let (mut text, mut sets, mut facts) = (input.text.to_owned(), input.sets.to_vec(), Cow::Borrowed(facts));
    let mut edits: Vec<_> = fix.edits.iter().collect();
    edits.sort_by_key(|edit| edit.span);
    let overlap = edits
        .windows(2)
        .any(|pair| pair[1].span.source == pair[0].span.source && pair[1].span.start < pair[0].span.end);
    if overlap {
        return Err(Finding::new("edits of a fix overlap", format!("{fix:#?}")));
    }
    for edit in edits.into_iter().rev() {
        let source = &checked.sources[edit.span.source.0 as usize];
        let text = match source.kind {
            lang::source::SourceKind::Set(index) => Some(&mut sets[index as usize]),
            lang::source::SourceKind::Recipe if edit.span.source.0 == 0 => Some(&mut text),
            lang::source::SourceKind::Recipe => facts.to_mut().texts.get_mut(&source.path),
        };
        let range = edit.span.start as usize..edit.span.end as usize;
        match text.filter(|text| text.get(range.clone()).is_some()) {
            Some(text) => text.replace_range(range, &edit.text),
            None => return Err(Finding::new("a fix of a place that is not there", format!("{fix:#?}"))),
        }
    }
    Ok((text, sets, facts))
}

/// Adds which nodes and values a right recipe has.
fn note_recipe(features: &mut Features, checked: &Checked) {
    for node in &checked.resolved.nodes {
        let kind = node.head.split(' ').next().unwrap_or_default();
        features.insert(hash(kind.as_bytes()));
        for child in &node.children {
            let keys: String = child.values.iter().filter_map(|value| value.key).collect();
            features.insert(hash(format!("{kind} {} {keys}", child.head).as_bytes()));
        }
    }
}

/// Lowers in rounds, as the command line does.
fn lowered(
    recipe: &Recipe,
    sources: &[Source],
    world: &mut World,
    features: &mut Features,
) -> Result<(), Finding> {
    let options = Options { name: "recipe".into(), ..Options::default() };
    for _ in 0..ROUNDS {
        let once = |facts: &Facts| timed(|| lower(recipe, sources, facts, &options));
        let Lowered { plan, diagnostics, wants, notes } = once(&world.facts);
        let again = once(&world.facts);
        if again.plan != plan
            || again.diagnostics != diagnostics
            || again.wants != wants
            || again.notes != notes
        {
            let detail = format!("{plan:#?}\n{:#?}", again.plan);
            return Err(Finding::new("plans differ when lowered again", detail));
        }
        diagnostics.iter().try_for_each(|found| sound(found, sources))?;
        diagnostics.iter().for_each(|found| note(features, found));
        for task in &plan.tasks {
            let kind = task.name.split(':').next().filter(|_| task.name.contains(':')).unwrap_or("stage");
            let is_known = task.key.is_some();
            features.insert(hash(format!("task {kind} {is_known} {}", task.inputs.len()).as_bytes()));
        }
        let mut news = world.fill(&wants);
        for task in plan.tasks.iter().filter(|task| task.name.starts_with("data:")) {
            news |= !world.facts.prepared.contains_key(&task.name);
            world.prepare(&task.name);
        }
        if !news || diagnostics.iter().any(|found| found.severity == Severity::Error) {
            break;
        }
    }
    Ok(())
}
