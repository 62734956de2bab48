//! The loss of a step does not depend on micro batch, accumulation or packing, dropout included.

use crate::workshop::Workshop;

/// Relative distance that sums in another order may make.
const TOLERANCE: f64 = 1e-5;

/// A model with dropout, and eight rows a step, so that every way of cutting them holds the same rows.
const RECIPE: &str = r#"adapt 1

tokenizer words {
    train bpe vocab=400 on=reader {
        special "<|im_start|>"
        special "<|im_end|>"
    }
}
model seed new:gpt2 {
    tokenizer words
    config {
        n_embd 32
        n_layer 2
        n_head 4
        n_positions 512
    }
}
dataset reader "reader/train.jsonl" { rows text; }
dataset talks "chat/train.jsonl" { rows chat; }
dataset choices "pairs/train.jsonl" { rows preference; }

defaults {
    precision f32
    sequence 512
    batch 8
    steps 4
    template std:chatml
}
cpt dutch {
    model seed
    data reader
    optimizer adamw lr=1e-3
}
sft chat {
    model seed
    data talks
    optimizer adamw lr=1e-3
}
dpo aligned {
    model seed
    data choices
    optimizer adamw lr=1e-3
}
"#;

fn workshop() -> Workshop {
    let shop = Workshop::new();
    for name in ["reader", "chat", "pairs"] {
        let rows: Vec<String> = shop
            .read(&format!("{name}/train.jsonl"))
            .lines()
            .filter(|line| line.len() < 900)
            .take(8)
            .map(str::to_owned)
            .collect();
        assert_eq!(rows.len(), 8);
        shop.write(&format!("{name}/train.jsonl"), &(rows.join("\n") + "\n"));
    }
    shop.write("tiny.kdl", &RECIPE.replace("    template std:chatml\n", ""));
    for stage in ["sft chat {", "dpo aligned {"] {
        shop.edit(stage, &format!("{stage}\n    template std:chatml"));
    }
    shop
}

#[test]
fn cutting_a_step_differently_leaves_its_loss() {
    let shop = workshop();
    shop.ok(&["run", "tiny.kdl", "--set", "*.micro=8"]);
    let ways: [(&str, &[&str]); 3] = [
        ("micro1", &["--set", "*.micro=1"]),
        ("micro3", &["--set", "*.micro=3"]),
        ("packed", &["--set", "dutch.pack=#true", "--set", "chat.pack=#true"]),
    ];
    for (name, sets) in ways {
        let args: Vec<&str> =
            ["run", "tiny.kdl", "--name", name].into_iter().chain(sets.iter().copied()).collect();
        shop.ok(&args);
        for stage in ["dutch", "chat", "aligned"] {
            let whole = shop.losses("runs/tiny", stage);
            let cut = shop.losses(&format!("runs/tiny-{name}"), stage);
            assert_eq!(whole.len(), 4);
            assert_eq!(whole.len(), cut.len());
            for (step, (a, b)) in whole.iter().zip(&cut).enumerate() {
                assert!((a - b).abs() <= TOLERANCE * a.abs(), "{name}, {stage}, step {step}: {a} and {b}");
            }
        }
    }
}

/// Dropout is active in training: with it the losses are others than without.
#[test]
fn dropout_of_the_config_acts() {
    let shop = workshop();
    shop.ok(&["run", "tiny.kdl", "--only", "dutch"]);
    let with = shop.losses("runs/tiny", "dutch");
    shop.edit(
        "n_positions 512",
        "n_positions 512\n        attn_pdrop 0.0\n        embd_pdrop 0.0\n        resid_pdrop 0.0",
    );
    shop.ok(&["run", "tiny.kdl", "--only", "dutch", "--name", "without"]);
    assert_ne!(with, shop.losses("runs/tiny-without", "dutch"));
}
