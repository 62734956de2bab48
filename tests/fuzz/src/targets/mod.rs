//! What is fuzzed: for each target its seeds, its mutations, and what must hold of every input.

mod check;
mod fmt;
mod import;
mod lsp;
mod own;
mod set;

use crate::mutate::mutate;
use crate::outcome::{Features, Finding};
use crate::random::Random;
use crate::seeds;

/// Parts of an input stand between these bytes: a recipe, then the arguments of `--set`
/// or what an editor writes over places of it.
pub const PART: u8 = 0x1E;

/// A part of the compiler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Target {
    /// Parsing, checking, lowering.
    Check,
    /// Formatting.
    Fmt,
    /// Values of the command line.
    Set,
    /// Files of other tools.
    Import,
    /// The language server's core.
    Lsp,
    /// Faults made on purpose, to see that they are found.
    #[value(hide = true)]
    Own,
}

/// The targets of a run that names none, with the share of the time that each gets.
pub const ALL: [(Target, u32); 5] =
    [(Target::Check, 4), (Target::Fmt, 3), (Target::Set, 2), (Target::Lsp, 1), (Target::Import, 2)];

impl Target {
    pub fn name(self) -> &'static str {
        match self {
            Target::Check => "check",
            Target::Fmt => "fmt",
            Target::Set => "set",
            Target::Import => "import",
            Target::Lsp => "lsp",
            Target::Own => "own",
        }
    }

    /// Returns the inputs to begin with, beside the saved ones.
    pub fn seeds(self) -> Vec<Vec<u8>> {
        match self {
            Target::Check | Target::Lsp => [seeds::cases(), seeds::gallery()].concat(),
            Target::Fmt => [seeds::cases(), seeds::gallery(), fmt::forms()].concat(),
            Target::Set => [seeds::cases(), seeds::gallery(), set::cases()].concat(),
            Target::Import => import::fixtures(),
            Target::Own => vec![b"quiet".to_vec()],
        }
    }

    /// Draws an input made from one of the seeds.
    pub fn input(self, seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
        let base = base(seeds, random);
        match self {
            Target::Check => mutate(base, seeds, true, random),
            Target::Fmt | Target::Own => mutate(base, seeds, false, random),
            Target::Set => set::input(base, seeds, random),
            Target::Import => import::input(base, seeds, random),
            Target::Lsp => lsp::input(base, seeds, random),
        }
    }

    /// Runs an input.
    ///
    /// # Errors
    /// Returns what must not be.
    pub fn run(self, input: &[u8], features: &mut Features) -> Result<(), Finding> {
        match self {
            Target::Check => check::run(input, features),
            Target::Fmt => fmt::run(input, features),
            Target::Set => set::run(input, features),
            Target::Import => import::run(input, features),
            Target::Lsp => lsp::run(input, features),
            Target::Own => own::run(input),
        }
    }
}

/// Draws a seed, small ones more often: they cost less and break as well.
fn base<'a>(seeds: &'a [Vec<u8>], random: &mut Random) -> &'a [u8] {
    let (one, other) = (random.pick(seeds), random.pick(seeds));
    let (small, large) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    if random.one_in(5) { large } else { small }
}
