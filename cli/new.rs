//! `adapt new NAME`: a starting recipe from the gallery, in a folder of its own.

use crate::gallery::{self, Kit, Recipe};
use crate::{terminal, text};
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Write a starting recipe from the gallery
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  adapt new --list                          what there is to start from
  adapt new dutch --from quickstart         writes dutch/dutch.kdl and the data it needs
  adapt new dutch                           asks which recipe to start from, on a terminal")]
pub struct Args {
    /// Folder to make; the recipe in it has the same name
    #[arg(required_unless_present = "list")]
    pub name: Option<PathBuf>,
    /// Recipe of the gallery to start from
    #[arg(long, value_name = "RECIPE")]
    pub from: Option<String>,
    /// List the gallery
    #[arg(long, conflicts_with_all = ["name", "from"])]
    pub list: bool,
}

/// Writes the recipe that was asked for, or lists what there is.
pub fn run(args: &Args) -> ExitCode {
    let Some(name) = args.name.as_ref().filter(|_| !args.list) else {
        return terminal::print(&listing());
    };
    let place = match Place::of(name) {
        Ok(place) => place,
        Err(error) => return terminal::wrong_use(&error),
    };
    let recipe = match &args.from {
        Some(from) => gallery::find(from).ok_or_else(|| unknown(from)),
        None => choose(),
    };
    let (kit, recipe) = match recipe.and_then(|recipe| Ok((recipe.kit(&place.file)?, recipe))) {
        Ok((kit, recipe)) => {
            terminal::detail(|| format!("starts from `{}`: {}", recipe.name, recipe.about));
            (kit, recipe)
        }
        Err(error) => return terminal::wrong_use(&error),
    };
    match place.write(&kit, &recipe) {
        Ok(()) => {
            for missing in &kit.missing {
                terminal::note(&format!(
                    "the recipe names `{missing}`, which does not come with it: change that path"
                ));
            }
            let recipe = place.folder.join(&place.file);
            terminal::print(&format!("{}\n", recipe.display()))
        }
        Err(error) => terminal::failure(&format!("{}: {error}", place.folder.display())),
    }
}

/// Where a recipe is written: a new folder, and the file in it.
struct Place {
    folder: PathBuf,
    file: String,
}

impl Place {
    /// Takes `dutch`, `work/dutch` or `dutch.kdl`.
    ///
    /// # Errors
    /// Fails in words when the name is none, or something of that name is there.
    fn of(name: &Path) -> Result<Self, String> {
        let folder = if name.extension().is_some_and(|end| end == "kdl") {
            name.with_extension("")
        } else {
            name.to_owned()
        };
        let stem = folder.file_name().and_then(|stem| stem.to_str());
        let stem = stem.ok_or_else(|| format!("`{}` is not a name for a recipe", name.display()))?;
        // A link that leads nowhere is there too.
        if fs::symlink_metadata(&folder).is_ok() {
            return Err(format!("{} is there already; choose another name", folder.display()));
        }
        Ok(Place { file: format!("{stem}.kdl"), folder })
    }

    /// Writes all files; every one of them is new, or nothing is written over. The comment of the recipe says
    /// how to run it where it is now.
    fn write(&self, kit: &Kit, recipe: &Recipe) -> io::Result<()> {
        if let Some(parent) = self.folder.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::create_dir(&self.folder)?;
        let here = self.folder.join(&self.file).display().to_string();
        for (file, bytes) in &kit.files {
            let path = self.folder.join(file);
            let moved = std::str::from_utf8(bytes).ok().filter(|_| *file == self.file);
            let moved = moved.map(|text| text.replace(&recipe.path_of_gallery(), &here).into_bytes());
            let bytes = moved.as_deref().unwrap_or(bytes);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::OpenOptions::new().write(true).create_new(true).open(&path)?.write_all(bytes)?;
            terminal::detail(|| format!("writes {}", path.display()));
        }
        Ok(())
    }
}

fn listing() -> String {
    let row = |recipe: Recipe| vec![recipe.name, recipe.about];
    text::table(&gallery::recipes().into_iter().map(row).collect::<Vec<_>>(), &[])
}

fn unknown(name: &str) -> String {
    let recipes = gallery::recipes();
    match lang::nearest(name, recipes.iter().map(|recipe| recipe.name.as_str())) {
        Some(near) => format!("the gallery has no recipe `{name}`; did you mean `{near}`?"),
        None => format!("the gallery has no recipe `{name}`; it has\n{}", listing().trim_end()),
    }
}

/// Asks which recipe to start from; without a terminal that is wrong use.
fn choose() -> Result<Recipe, String> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(format!(
            "say what to start from with `--from RECIPE`; there is\n{}",
            listing().trim_end()
        ));
    }
    let recipes = gallery::recipes();
    let row = |(index, recipe): (usize, &Recipe)| {
        vec![format!("{}", index + 1), recipe.name.clone(), recipe.about.clone()]
    };
    let rows: Vec<Vec<String>> = recipes.iter().enumerate().map(row).collect();
    terminal::ask(format_args!("{}start from (number or name): ", text::table(&rows, &[0])));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|error| format!("standard input: {error}"))?;
    chosen(answer.trim(), &recipes).ok_or_else(|| match answer.trim() {
        "" => "nothing was chosen".to_owned(),
        answer => unknown(answer),
    })
}

fn chosen(answer: &str, recipes: &[Recipe]) -> Option<Recipe> {
    match answer.parse::<usize>() {
        Ok(number) => number.checked_sub(1).and_then(|index| recipes.get(index)).cloned(),
        Err(_) => gallery::find(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_a_number_or_a_name() {
        let recipes = gallery::recipes();
        assert_eq!(chosen("1", &recipes), recipes.first().cloned());
        assert_eq!(chosen("quickstart", &recipes).map(|recipe| recipe.name), Some("quickstart".into()));
        assert_eq!(chosen("0", &recipes), None);
        assert_eq!(chosen("999", &recipes), None);
        assert_eq!(chosen("", &recipes), None);
    }
}
