//! What `check` says of what lies around a recipe: models, hardware.

use crate::support::parity;
use crate::workshop::Workshop;

/// A workshop with the model of the references in `base`, with its tokenizer but without a chat template.
fn with_model() -> Workshop {
    let shop = Workshop::new();
    std::fs::create_dir(shop.path("base")).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(parity("llama").join(file), shop.path("base").join(file)).unwrap();
    }
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(parity("tokenizer").join(file), shop.path("base").join(file)).unwrap();
    }
    shop
}

const FROM_OWN: &str = r#"adapt 1
model base "base"
dataset talks "chat/train.jsonl" { rows chat }
sft own { model base; data talks; precision f32; sequence 64; batch 2; steps 2; optimizer adamw lr=1e-4; }
"#;

const TEMPLATE: &str = "{% for m in messages %}{{ m['content'] }}{% endfor %}";

#[test]
fn a_local_model_brings_its_own_template() {
    let shop = with_model();
    shop.write("own.kdl", FROM_OWN);
    let check = || shop.run(&["check", "own.kdl", "--format", "concise"]);
    let settings = shop.read("base/tokenizer_config.json");
    let mut without: serde_json::Value = serde_json::from_str(&settings).unwrap();
    shop.write("base/tokenizer_config.json", &without.to_string());
    assert!(check().stdout.contains("error[missing-template]"), "{}", check().stdout);

    shop.write("base/chat_template.jinja", TEMPLATE);
    assert_eq!(check().code, Some(0), "{}", check().stdout);
    std::fs::remove_file(shop.path("base/chat_template.jinja")).unwrap();
    for template in [
        serde_json::json!(TEMPLATE),
        serde_json::json!([{ "name": "tools", "template": "t" }, { "name": "default", "template": TEMPLATE }]),
    ] {
        without["chat_template"] = template;
        shop.write("base/tokenizer_config.json", &without.to_string());
        assert_eq!(check().code, Some(0), "{}", check().stdout);
    }
}
