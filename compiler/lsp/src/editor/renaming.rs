//! Every place of a name, and another name for it.

use super::Editor;
use crate::names::{self, Occurrence};
use crate::outside::Outside;
use crate::text::Text;
use lsp_types::{Location, Position, Range, TextEdit, Uri, WorkspaceEdit};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

impl<O: Outside> Editor<O> {
    /// Returns every text that may hold a name of this one: those of all compilations that read it.
    fn scope(&mut self, uri: &Uri) -> BTreeMap<Uri, Rc<Text>> {
        let roots: Vec<Uri> = self.documents.keys().cloned().collect();
        let mut scope = BTreeMap::new();
        for root in roots {
            let Some(compilation) = self.compiled(&root) else { continue };
            let uris = self.uris(&root, &compilation);
            if uris.iter().flatten().any(|found| found == uri) {
                let texts = compilation.files.iter().map(|file| file.text.clone());
                scope.extend(uris.into_iter().zip(texts).filter_map(|(uri, text)| Some((uri?, text))));
            }
        }
        scope
    }

    /// Returns every place of a name.
    fn everywhere(&mut self, uri: &Uri, name: &str) -> Vec<(Uri, Rc<Text>, Occurrence)> {
        let scope = self.scope(uri).into_iter();
        scope
            .flat_map(|(uri, text)| {
                let found = names::occurrences(&text).into_iter().filter(|found| found.name == name);
                found.map(|found| (uri.clone(), text.clone(), found)).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Returns the places that refer to the name at a position.
    pub fn references(&mut self, uri: &Uri, position: Position, declaration: bool) -> Vec<Location> {
        let Some((_, text, at)) = self.at(uri, position) else { return Vec::new() };
        let Some(name) = names::at(&text, at).map(|found| found.name) else { return Vec::new() };
        let found = self.everywhere(uri, &name).into_iter();
        let wanted = found.filter(|(_, _, found)| declaration || !found.role.declares());
        wanted
            .map(|(uri, text, found)| Location {
                uri,
                range: text.range(found.range, self.abilities.encoding),
            })
            .collect()
    }

    /// Returns the characters of the name at a position, when it can be renamed.
    pub fn prepare_rename(&mut self, uri: &Uri, position: Position) -> Option<Range> {
        let (_, text, at) = self.at(uri, position)?;
        let found = names::at(&text, at)?;
        let declared = self.everywhere(uri, &found.name).iter().any(|(_, _, found)| found.role.declares());
        declared.then(|| text.range(found.range, self.abilities.encoding))
    }

    /// Gives the name at a position another one, everywhere.
    ///
    /// # Errors
    /// Fails, in words for the user, when there is no declared name, or the new one cannot be one or is taken.
    pub fn rename(&mut self, uri: &Uri, position: Position, new: &str) -> Result<WorkspaceEdit, String> {
        let nothing = || "there is no name here that a recipe declares".to_owned();
        let (_, text, at) = self.at(uri, position).ok_or_else(nothing)?;
        let old = names::at(&text, at).ok_or_else(nothing)?.name;
        if let Some(reason) = names::refuse(new) {
            return Err(format!("`{new}` cannot be a name: {reason}"));
        }
        let places = self.everywhere(uri, &old);
        if !places.iter().any(|(_, _, found)| found.role.declares()) {
            return Err(nothing());
        }
        let taken = self.everywhere(uri, new).into_iter().find(|(_, _, found)| found.role.declares());
        if let Some((_, text, found)) = taken.filter(|_| new != old) {
            let line = text.line(found.range.start);
            return Err(format!("`{new}` is declared already, in line {line}"));
        }
        let mut changes: HashMap<Uri, Vec<TextEdit>> = HashMap::new();
        for (uri, text, found) in places {
            let written = match found.role {
                names::Role::Parameter => new.to_owned(),
                names::Role::Declares(_) | names::Role::Refers => names::written(new),
            };
            let range = text.range(found.range, self.abilities.encoding);
            changes.entry(uri).or_default().push(TextEdit { range, new_text: written });
        }
        Ok(WorkspaceEdit { changes: Some(changes), ..Default::default() })
    }
}
