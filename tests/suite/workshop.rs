//! A folder with a small recipe and its data, and the command run in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// A recipe of three stages that runs in a second or two.
pub const RECIPE: &str = r#"adapt 1

tokenizer words {
    train bpe vocab=400 on=reader {
        special "<|im_start|>"
        special "<|im_end|>"
    }
}

model seed new:llama {
    tokenizer words
    config {
        hidden_size 32
        intermediate_size 64
        num_hidden_layers 2
        num_attention_heads 4
        num_key_value_heads 2
        max_position_embeddings 256
        tie_word_embeddings #true
        attention_dropout 0.1
    }
}

dataset reader "reader" {
    rows text
    split train=train eval=heldout
}
dataset talks "chat" {
    rows chat
    split train=train eval=heldout
}
dataset choices "pairs" {
    rows preference
    split train=train eval=heldout
}

defaults {
    precision f32
    sequence 192
    checkpoint every="1 steps" keep=2
}

cpt dutch {
    model seed
    data reader
    batch 4
    steps 8
    optimizer adamw lr=3e-3
    sample every="4 steps" prompt="Op een dag" max-tokens=4
}

sft chat {
    model dutch
    data talks
    template std:chatml
    batch 4
    steps 5
    optimizer adamw lr=1e-3
}

dpo aligned {
    model chat
    data choices
    batch 4
    steps 4
    optimizer adamw lr=1e-4
}
"#;

/// A temporary folder that commands run in, with a cache of its own.
pub struct Workshop {
    folder: TempDir,
}

impl Workshop {
    /// Lays out the recipe and the first rows of the quickstart's data.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shop = Workshop { folder };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/quickstart");
        for (name, train, eval) in [("reader", 60, 6), ("chat", 40, 8), ("pairs", 24, 8)] {
            for (side, rows) in [("train", train), ("heldout", eval)] {
                let text = fs::read_to_string(source.join(name).join(format!("{side}.jsonl"))).unwrap();
                let rows: Vec<&str> = text.lines().take(rows).collect();
                shop.write(&format!("{name}/{side}.jsonl"), &(rows.join("\n") + "\n"));
            }
        }
        shop.write("tiny.kdl", RECIPE);
        shop
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        let path = self.path(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Changes the recipe.
    pub fn edit(&self, from: &str, to: &str) {
        let text = self.read("tiny.kdl");
        assert!(text.contains(from), "the recipe has no `{from}`");
        self.write("tiny.kdl", &text.replacen(from, to, 1));
    }

    /// Prepares a command in this folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adapt"));
        command.args(args).current_dir(self.folder.path());
        command.env("ADAPT_CACHE", self.path("cache")).env("NO_COLOR", "1");
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    /// Runs a command that must succeed.
    pub fn ok(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
        ran
    }

    /// Starts a command.
    pub fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs a command whose output nobody reads; returns its exit code.
    pub fn ignored(&self, args: &[&str]) -> Option<i32> {
        let mut child = self.start(args);
        drop((child.stdout.take(), child.stderr.take()));
        child.wait().unwrap().code()
    }

    /// Returns the bytes of a stage's weights.
    pub fn weights(&self, run: &str, stage: &str) -> Vec<u8> {
        fs::read(self.path(&format!("{run}/{stage}/model/model.safetensors"))).unwrap()
    }

    /// Returns the lines of a stage's metrics.
    pub fn metrics(&self, run: &str, stage: &str) -> Vec<serde_json::Value> {
        let text = self.read(&format!("{run}/{stage}/metrics.jsonl"));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Returns the loss of each step of a stage.
    pub fn losses(&self, run: &str, stage: &str) -> Vec<f64> {
        self.metrics(run, stage).iter().filter_map(|line| line.get("loss")?.as_f64()).collect()
    }
}

/// What a command came to.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Fails unless the command failed with exit code 1 and all of these words in its errors.
    pub fn failed_with(&self, words: &[&str]) {
        assert_eq!(self.code, Some(1), "{}\n{}", self.stdout, self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "no `{word}` in:\n{}", self.stderr);
        }
    }
}
