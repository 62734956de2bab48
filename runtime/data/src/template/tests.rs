//! Templates against transformers: rendered text, spans, refusals.
