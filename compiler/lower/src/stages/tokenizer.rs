//! `tokenizer`: given from outside, or trained.

use super::{Lowering, TokenizerInfo};
use lang::facts::Want;
use lang::recipe::{Ref, TokenizerSource};
use plan::task::{Conduct, Figures};
use plan::work::{Artifact, TrainTokenizer, Work};

impl Lowering<'_> {
    /// Returns the tokenizer that a reference means.
    pub(super) fn tokenizer(&mut self, reference: &Ref) -> Option<TokenizerInfo> {
        let recipe = self.recipe;
        let declared = recipe.tokenizers.iter().find(|tokenizer| tokenizer.name == reference.name)?;
        match &declared.source {
            TokenizerSource::Path(path) => Some(self.tokenizer_at(&path.value)),
            TokenizerSource::Train(train) => {
                let work = TrainTokenizer {
                    vocab: train.vocab.value,
                    min_frequency: train.min_frequency.value,
                    special: train.special.iter().map(|special| special.value.clone()).collect(),
                    byte_level: train.byte_level.value,
                    data: self.parts(&train.on)?,
                };
                let name = format!("tokenizer:{}", declared.name);
                let name = match self.tasks.iter().any(|task| task.name == name) {
                    true => name,
                    false => self.task(
                        &name,
                        Work::TrainTokenizer(work),
                        Conduct::default(),
                        train.at,
                        Figures::default(),
                    ),
                };
                let fact = self.facts.tokenizers.get(&name).cloned();
                Some(TokenizerInfo { artifact: Artifact::Task(name), fact })
            }
        }
    }

    /// Returns the tokenizer in a folder or file.
    pub(super) fn tokenizer_at(&mut self, path: &str) -> TokenizerInfo {
        let fact = self.facts.tokenizers.get(path).cloned();
        if fact.is_none() {
            self.wants.insert(Want::Tokenizer(path.to_owned()));
        }
        TokenizerInfo { artifact: Artifact::Path(path.to_owned()), fact }
    }
}
