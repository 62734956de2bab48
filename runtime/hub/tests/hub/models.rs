//! Models and their tokenizers.

use crate::server::Server;
use crate::{MODEL, file, find_model, hub, info, serve_model};
use hub::Error;
use serde_json::json;

#[test]
fn a_model_is_what_its_small_files_say() {
    let server = Server::start();
    serve_model(
        &server,
        &[
            ("config.json", r#"{"model_type": "llama", "vocab_size": 4}"#),
            (
                "tokenizer.json",
                r#"{"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 3, "content": "</s>", "special": true}]}"#,
            ),
            ("tokenizer_config.json", r#"{"eos_token": "</s>", "bos_token": null, "chat_template": "old"}"#),
            ("chat_template.jinja", "{{ messages }}"),
        ],
    );
    let hub = hub(&server);
    let found = find_model(&hub).expect("there");
    let model = hub.model(&found).expect("there");
    assert_eq!((model.config["model_type"].as_str(), model.generation_config), (Some("llama"), None));
    assert_eq!(server.count(&file("generation_config.json")), 0, "it is not in the list");
    let tokenizer = hub.tokenizer(&found).expect("there");
    assert_eq!((tokenizer.vocab_size, tokenizer.eos.as_deref(), tokenizer.bos), (4, Some("</s>"), None));
    assert_eq!(tokenizer.chat_template.as_deref(), Some("{{ messages }}"));
}

#[test]
fn weights_count_in_one_format_and_copies_in_folders_not_at_all() {
    let server = Server::start();
    let mut files = vec![("config.json", 1), ("pytorch_model.bin", 100), ("original/model.safetensors", 100)];
    server.json(MODEL, info(&files));
    let bytes = || hub::bytes_of(&find_model(&hub(&server)).expect("there").model_files());
    assert_eq!(bytes(), Some(101));
    files.extend([("model-00001-of-00002.safetensors", 20), ("model-00002-of-00002.safetensors", 30)]);
    files.extend([("consolidated.safetensors", 100), ("README.md", 100)]);
    server.json(MODEL, info(&files));
    assert_eq!(bytes(), Some(51));
    server.json(MODEL, json!({"sha": crate::COMMIT, "siblings": [{"rfilename": "model.safetensors"}]}));
    assert_eq!(bytes(), None, "a size that is not known is not 0");
}

#[test]
fn what_a_model_lacks_is_named() {
    let server = Server::start();
    serve_model(&server, &[("config.json", "[]")]);
    let hub = hub(&server);
    let found = find_model(&hub).expect("there");
    assert!(matches!(hub.model(&found), Err(Error::BadAnswer { why, .. }) if why == "it is not an object"));
    let error = hub.tokenizer(&found).expect_err("there is none");
    assert_eq!(error.to_string(), "the hub does not have tokenizer.json of model `o/m`");
}
