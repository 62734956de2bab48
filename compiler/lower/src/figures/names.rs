//! Names of modules: which exist, and which tensors a name reaches.

use super::architecture::{Kind, Shapes, Tensor};

/// Returns the names that an adapter may stand on, each once: of the layers, then of both ends.
pub fn adapter_names(shapes: &Shapes) -> Vec<String> {
    let mut names = layer_names(shapes, |tensor| tensor.kind.is_linear());
    names.extend(["embed_tokens".to_owned(), "lm_head".to_owned()]);
    names
}

/// Returns the names that may be trained, each once.
pub fn module_names(shapes: &Shapes) -> Vec<String> {
    let mut names = vec!["embed_tokens".to_owned(), "lm_head".to_owned()];
    for name in layer_names(shapes, |_| true) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for tensor in shapes.tensors.iter().filter(|tensor| tensor.layer.is_none()) {
        let name = last_part(tensor).to_owned();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn layer_names(shapes: &Shapes, keep: impl Fn(&Tensor) -> bool) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for tensor in shapes.layer(0).filter(|tensor| keep(tensor)) {
        let name = last_part(tensor);
        // Experts and heads are numbered; a number is no name.
        if name.parse::<u64>().is_err() && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

fn last_part(tensor: &Tensor) -> &str {
    let module = tensor.module();
    module.rsplit('.').next().unwrap_or(module)
}

pub(super) fn takes_adapter(tensor: &Tensor) -> bool {
    tensor.kind.is_linear() || matches!(tensor.kind, Kind::Embedding | Kind::Head)
}

/// Whether a module's path ends with the name, or the name is that of one of both ends.
pub(super) fn ends_with(shapes: &Shapes, tensor: &Tensor, name: &str) -> bool {
    let module = tensor.module();
    is_end(shapes, tensor, name)
        || module.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether the name stands in a module's path, between dots.
pub(super) fn contains(shapes: &Shapes, tensor: &Tensor, name: &str) -> bool {
    is_end(shapes, tensor, name) || format!(".{}.", tensor.module()).contains(&format!(".{name}."))
}

fn is_end(shapes: &Shapes, tensor: &Tensor, name: &str) -> bool {
    match (name, tensor.kind) {
        ("embed_tokens", Kind::Embedding) | ("lm_head", Kind::Head) => true,
        ("lm_head", Kind::Embedding) => shapes.tied,
        _ => false,
    }
}
