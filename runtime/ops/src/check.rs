//! What operands each op takes, as a table, and the check of a call against it.
//!
//! A signature names each operand and spells its shape in letters, `x N H`: equal letters are equal
//! sizes. `*` is any shape (the same for all `*` of one op), a digit itself. Operands after `|` may be left
//! off, from the end. The mark before a name says the dtype: none the call's number format, which tokens and
//! weights have; `=` that of sums, f32 also when the format is bf16; `^` either; `#` i32; `~` any.

use crate::backend::{Call, OpError};
use crate::view::Dims;
use plan::op::{ATTENTION_INPUTS, HeadGrads, OpKind, Write, in_place};
use plan::value::Dtype;

/// Operands of an op, inputs and outputs.
struct Signature {
    inputs: &'static str,
    outputs: &'static str,
}

/// Returns the sizes that attributes of the op fix.
fn fixed(kind: &OpKind) -> Sizes {
    let mut sizes = Sizes::default();
    if let OpKind::Attention(a) | OpKind::AttentionGrad(a) | OpKind::AttentionCached(a) = kind {
        let (heads, kv_heads, dim) = (a.heads as usize, a.kv_heads as usize, a.head_dim as usize);
        sizes.set('A', heads);
        sizes.set('Q', heads * dim);
        sizes.set('K', kv_heads * dim);
    }
    sizes
}

/// Returns the operands of an op; none for the ops that no backend of this crate runs.
fn signature(kind: &OpKind) -> Option<Signature> {
    let (inputs, outputs) = match kind {
        OpKind::Embed => ("#index N, table V H", "y N H"),
        OpKind::EmbedGrad => ("dy N H, #index N", "=dtable V H"),
        OpKind::Linear { .. } => ("x N I, w O I | bias O", "^y N O"),
        OpKind::LinearGradX => ("dy N O, w O I", "dx N I"),
        OpKind::LinearGradW => ("dy N O, x N I", "=dw O I"),
        OpKind::BiasGrad => ("dy N O", "=db O"),
        OpKind::RmsNorm { .. } => ("x N H, w H | residual N H", "y N H, =rstd N | h N H"),
        OpKind::RmsNormGrad => ("dy N H, h N H, w H, =rstd N | dh N H", "dx N H | =dw H"),
        OpKind::LayerNorm { .. } => ("x N H, w H, b H | residual N H", "y N H, =mean N, =rstd N | h N H"),
        OpKind::LayerNormGrad => ("dy N H, h N H, w H, =mean N, =rstd N | dh N H", "dx N H | =dw H, =db H"),
        OpKind::Rope { .. } => ("x N H, #positions N", "y N H"),
        OpKind::Attention(_) => {
            ("q N Q, k N K, v N K, #cu_seqlens C, #row_numbers R | #prefixes R", "o N Q, =lse N A")
        }
        OpKind::AttentionGrad(_) => (
            "do N Q, q N Q, k N K, v N K, o N Q, =lse N A, #cu_seqlens C, #row_numbers R | #prefixes R",
            "dq N Q, dk N K, dv N K",
        ),
        OpKind::GatedAct { .. } => ("gate *, up *", "y *"),
        OpKind::GatedActGrad { .. } => ("dy *, gate *, up *", "dgate *, dup *"),
        OpKind::Act { .. } => ("x *", "y *"),
        OpKind::ActGrad { .. } => ("dy *, x *", "dx *"),
        OpKind::Add => ("a *, b *", "y *"),
        OpKind::Copy => ("x *", "y *"),
        OpKind::Dropout(_) => ("x N H, #cu_seqlens C, #row_numbers R", "y N H"),
        OpKind::LmHeadLoss { grads } => (
            "h N H, w V H, #trained_index T, #trained_labels T | =scale 1",
            match grads {
                HeadGrads::None => "=loss 1",
                HeadGrads::Hidden => "=loss 1, dh N H",
                HeadGrads::HiddenAndWeight => "=loss 1, dh N H, =dw V H",
            },
        ),
        OpKind::TokenLogprobs => ("h N H, w V H, #trained_index T, #trained_labels T", "=logprob T, =lse T"),
        OpKind::TokenLogprobsGrad => {
            ("=dlogprob T, h N H, w V H, #trained_index T, #trained_labels T, =lse T", "dh N H | =dw V H")
        }
        OpKind::SumByRow { .. } => ("=x T, #trained_row T", "=y R"),
        OpKind::SpreadToTokens { .. } => ("=dy R, #trained_row T", "=dx T"),
        // Outputs are two or three; `dpolicy` stands between the others.
        OpKind::PreferenceLoss { .. } => {
            ("=policy R, =reference R, =scale 1", "=loss 1, =dpolicy R, =metrics 4")
        }
        OpKind::Reciprocal => ("~count 1", "=scale 1"),
        OpKind::SumSquares => ("=gradients", "=sum 1"),
        OpKind::ClipFactor { .. } => ("=sum 1", "=norm 1, =factor 1"),
        OpKind::AdamW { .. } => {
            ("=gradient *, =factor 1, =update_scalars 3", "=weight *, =m *, =v * | ~rounded *")
        }
        OpKind::Gather => ("x N H, #index S", "y S H"),
        OpKind::CacheAppend => ("x N K, #slots N, #positions N", "cache S C K"),
        OpKind::AttentionCached(_) => ("q S Q, k_cache S C K, v_cache S C K, #lengths S", "o S Q"),
        OpKind::Cast => ("~x *", "~y *"),
        OpKind::Route { .. }
        | OpKind::Dispatch { .. }
        | OpKind::GroupedLinear { .. }
        | OpKind::Combine { .. }
        | OpKind::AllGather { .. }
        | OpKind::ReduceScatter { .. }
        | OpKind::AllReduce { .. } => return None,
    };
    Some(Signature { inputs, outputs })
}

/// Returns the format in which sums and statistics are kept when tokens and weights have that one.
fn of_sums(float: Dtype) -> Dtype {
    match float {
        Dtype::F64 => Dtype::F64,
        Dtype::F32 | Dtype::Bf16 | Dtype::F16 | Dtype::I32 | Dtype::U8 => Dtype::F32,
    }
}

/// Returns the dtypes of an op's operands, inputs and outputs, when its number format is that one; of each as
/// many as the op may have. None for an op that no backend of this crate runs.
pub fn dtypes(kind: &OpKind, format: Dtype) -> Option<(Vec<Dtype>, Vec<Dtype>)> {
    let of = |text: &str| -> Vec<Dtype> {
        let operands = text.split([',', '|']).map(str::trim);
        let dtype = |operand: &str| match operand.chars().next() {
            Some('#') => Dtype::I32,
            Some('=' | '~') => of_sums(format),
            _ => format, // also where others fit
        };
        operands.map(dtype).collect()
    };
    signature(kind).map(|signature| (of(signature.inputs), of(signature.outputs)))
}

/// Returns the call's number format: the dtype of its first operand without a mark; f32 when it has none.
pub fn number_format(call: &Call<'_, '_>) -> Dtype {
    let Some(signature) = signature(call.kind) else { return Dtype::F32 };
    if rewrites(call) {
        // What is rewritten has it.
        return call.outputs.first().map_or(Dtype::F32, |output| output.dtype);
    }
    let operands = signature.inputs.split([',', '|']).map(str::trim).zip(call.inputs);
    let unmarked = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic());
    let mut of_format = operands.filter(|(text, _)| unmarked(text));
    of_format.next().map(|(_, view)| view.dtype).filter(|dtype| dtype.is_float()).unwrap_or(Dtype::F32)
}

/// Operand sizes met so far in one call.
#[derive(Default)]
struct Sizes {
    /// By letter, from `A`.
    letters: [Option<usize>; 26],
    /// What `*` stands for.
    any: Option<Dims>,
}

impl Sizes {
    fn get(&self, letter: char) -> Option<usize> {
        match letter.to_digit(10) {
            Some(digit) => Some(digit as usize),
            None => self.letters[letter as usize - 'A' as usize],
        }
    }

    fn set(&mut self, letter: char, size: usize) {
        self.letters[letter as usize - 'A' as usize] = Some(size);
    }

    /// Checks one operand's shape against its letters; the sizes of new letters are noted.
    fn fits(&mut self, shape: &str, dims: Dims) -> bool {
        if shape == "*" {
            return *self.any.get_or_insert(dims) == dims;
        }
        let sizes = dims.sizes();
        let mut fits = shape.split(' ').count() == sizes.len();
        for (letter, &size) in shape.chars().filter(|c| *c != ' ').zip(sizes) {
            match self.get(letter) {
                Some(known) => fits &= known == size,
                None => self.set(letter, size),
            }
        }
        fits
    }

    /// Returns what a shape stands for in this call, for people.
    fn describe(&self, shape: &str) -> String {
        if let ("*", Some(dims)) = (shape, self.any) {
            return format!("{:?}", dims.sizes());
        }
        let one = |letter: &str| match letter.chars().next().and_then(|letter| self.get(letter)) {
            Some(size) => format!("{letter} = {size}"),
            None => letter.to_owned(),
        };
        format!("[{}]", shape.split(' ').map(one).collect::<Vec<_>>().join(", "))
    }
}

/// Checks number, shapes, dtypes and writes of a call's operands, and the indices among them.
///
/// # Errors
/// Fails on the first operand that the op does not take, with op, operand, shape and dtype.
pub fn check(call: &Call<'_, '_>, float: Dtype) -> Result<(), OpError> {
    let op = call.kind.name();
    let Some(signature) = signature(call.kind) else {
        return Err(OpError(format!("{op}: not an op of this backend")));
    };
    let mut sizes = fixed(call.kind);
    if matches!(call.kind, OpKind::SumSquares) {
        for input in call.inputs {
            expect_dtype(op, "gradient", input.dtype, of_sums(float))?;
        }
    } else {
        let inputs = call.inputs.iter().map(|view| (view.dims, view.dtype));
        let rewritten = if rewrites(call) { in_place(call.kind) } else { &[] };
        check_operands(op, signature.inputs, rewritten, inputs, &mut sizes, float)?;
    }
    let text = match (call.kind, call.outputs.len()) {
        (OpKind::PreferenceLoss { .. }, 2) => "=loss 1, =metrics 4",
        _ => signature.outputs,
    };
    let outputs = call.outputs.iter().map(|view| (view.dims, view.dtype));
    check_operands(op, text, &[], outputs, &mut sizes, float)?;
    check_pairs(call, &sizes)?;
    check_writes(call)
}

/// Returns whether an op that may work in place does, so that some inputs are outputs.
pub fn rewrites(call: &Call<'_, '_>) -> bool {
    let outputs = in_place(call.kind).iter().filter_map(|&(_, output)| call.outputs.get(output));
    outputs.map(|output| output.write).any(|write| write == Write::Update)
}

/// Checks operands against their text; of inputs those that are rewritten are not there.
fn check_operands(
    op: &str,
    text: &str,
    rewritten: &[(usize, usize)],
    operands: impl ExactSizeIterator<Item = (Dims, Dtype)>,
    sizes: &mut Sizes,
    float: Dtype,
) -> Result<(), OpError> {
    let least = text.split('|').next().map_or(0, |required| required.split(',').count()) - rewritten.len();
    let most = text.split([',', '|']).count() - rewritten.len();
    if operands.len() < least || operands.len() > most {
        return Err(OpError(format!("{op}: {} operands for `{text}`", operands.len())));
    }
    let is_left = |at: usize| rewritten.iter().all(|(input, _)| *input != at);
    let texts = text.split([',', '|']).map(str::trim).enumerate().filter(|(at, _)| is_left(*at));
    for ((_, operand), (dims, dtype)) in texts.zip(operands) {
        let (name, shape) = operand.split_once(' ').unwrap_or((operand, "*"));
        let expected = match name.chars().next() {
            Some('#') => Dtype::I32,
            Some('~') => dtype,
            Some('=') => of_sums(float),
            Some('^') if dtype == of_sums(float) => dtype,
            _ => float, // no mark
        };
        let name = name.trim_start_matches(['#', '~', '=', '^']);
        expect_dtype(op, name, dtype, expected)?;
        if !sizes.fits(shape, dims) {
            let (given, expected) = (dims.sizes(), sizes.describe(shape));
            return Err(OpError(format!(
                "{op}: shape mismatch of `{name}`, {given:?} where {expected} belongs"
            )));
        }
    }
    Ok(())
}

fn expect_dtype(op: &str, name: &str, dtype: Dtype, expected: Dtype) -> Result<(), OpError> {
    if dtype == expected {
        return Ok(());
    }
    Err(OpError(format!("{op}: `{name}` is {}, not {}", dtype.name(), expected.name())))
}

/// Checks what letters cannot say.
fn check_pairs(call: &Call<'_, '_>, sizes: &Sizes) -> Result<(), OpError> {
    let op = call.kind.name();
    if let (Some(cu), Some(rows)) = (sizes.get('C'), sizes.get('R'))
        && cu != rows + 1
    {
        return Err(OpError(format!("{op}: {cu} cu_seqlens for {rows} rows")));
    }
    match call.kind {
        OpKind::RmsNorm { .. } | OpKind::LayerNorm { .. } => {
            let without = if matches!(call.kind, OpKind::RmsNorm { .. }) { 2 } else { 3 };
            let (residual, h) = (call.inputs.len() > without, call.outputs.len() > without);
            if residual != h {
                return Err(OpError(format!("{op}: `residual` and `h` belong together")));
            }
        }
        OpKind::Rope { head_dim, inv_freq, .. } => {
            let (head, width) = (*head_dim as usize, sizes.get('H').unwrap_or(0));
            if head == 0 || head % 2 != 0 || width % head != 0 || inv_freq.len() != head / 2 {
                let angles = inv_freq.len();
                return Err(OpError(format!(
                    "{op}: head_dim {head}, {angles} frequencies, {width} channels"
                )));
            }
        }
        OpKind::Attention(a) | OpKind::AttentionGrad(a) | OpKind::AttentionCached(a) => {
            if a.kv_heads == 0 || a.head_dim == 0 || a.heads % a.kv_heads != 0 {
                let (heads, kv_heads, dim) = (a.heads, a.kv_heads, a.head_dim);
                return Err(OpError(format!("{op}: {heads} heads, {kv_heads} kv heads, head_dim {dim}")));
            }
            let without = if matches!(call.kind, OpKind::AttentionGrad(_)) { 8 } else { ATTENTION_INPUTS };
            if a.dropout.is_some() && call.inputs.len() > without {
                return Err(OpError(format!("{op}: dropout and prefixes exclude each other")));
            }
            let slopes = a.alibi.as_ref().map_or(a.heads as usize, Vec::len);
            if slopes != a.heads as usize {
                return Err(OpError(format!("{op}: {slopes} slopes for {} heads", a.heads)));
            }
        }
        OpKind::PreferenceLoss { .. } => {
            let rows = sizes.get('R').unwrap_or(0);
            if !rows.is_multiple_of(2) {
                return Err(OpError(format!("{op}: {rows} rows are not pairs")));
            }
        }
        _ => {} // the shapes say everything
    }
    Ok(())
}

fn check_writes(call: &Call<'_, '_>) -> Result<(), OpError> {
    let op = call.kind.name();
    let updates = matches!(call.kind, OpKind::AdamW { .. } | OpKind::CacheAppend);
    let (pairs, in_place) = (in_place(call.kind), rewrites(call));
    for (index, output) in call.outputs.iter().enumerate() {
        let updates = updates || in_place && pairs.iter().any(|(_, output)| *output == index);
        let fits = match output.write {
            Write::Update => updates,
            Write::Set | Write::Add => !updates,
            Write::Accumulate => false,
        };
        if !fits {
            return Err(OpError(format!("{op}: output {index} cannot be written with {:?}", output.write)));
        }
    }
    Ok(())
}

/// Checks that every index lies in `0..bound`.
///
/// # Errors
/// Fails with the first index that does not.
pub fn check_index(op: &str, name: &str, index: &[i32], bound: usize) -> Result<(), OpError> {
    match index.iter().position(|&i| i < 0 || i as usize >= bound) {
        None => Ok(()),
        Some(at) => Err(OpError(format!("{op}: `{name}`[{at}] is {}, outside of 0..{bound}", index[at]))),
    }
}

/// Checks that an index rises from element to element.
///
/// # Errors
/// Fails with the first element that does not.
pub fn check_rising(op: &str, name: &str, index: &[i32], strictly: bool) -> Result<(), OpError> {
    let falls = |pair: &[i32]| pair[1] < pair[0] || (strictly && pair[1] == pair[0]);
    match index.windows(2).position(falls) {
        None => Ok(()),
        Some(at) => {
            Err(OpError(format!("{op}: `{name}`[{}] is {}, after {}", at + 1, index[at + 1], index[at])))
        }
    }
}

/// Checks that prefixes are of rows: none of the first, and each within the trunk that its row goes on from.
///
/// # Errors
/// Fails with the first prefix that is not.
pub fn check_prefixes(op: &str, cu_seqlens: &[i32], prefixes: &[i32]) -> Result<(), OpError> {
    let mut trunk = 0;
    for (row, &prefix) in prefixes.iter().enumerate() {
        if prefix == 0 {
            trunk = cu_seqlens[row + 1] - cu_seqlens[row];
        } else if !(0..=trunk).contains(&prefix) {
            return Err(OpError(format!(
                "{op}: `prefixes`[{row}] is {prefix}, its trunk has {trunk} tokens"
            )));
        }
    }
    Ok(())
}

/// Checks that rows are delimited from 0 to `tokens`.
///
/// # Errors
/// Fails with the first delimiter that is out of order.
pub fn check_rows(op: &str, cu_seqlens: &[i32], tokens: usize) -> Result<(), OpError> {
    check_rising(op, "cu_seqlens", cu_seqlens, false)?;
    let (first, last) = (cu_seqlens.first().copied(), cu_seqlens.last().copied());
    if first != Some(0) || last != Some(tokens as i32) {
        return Err(OpError(format!("{op}: cu_seqlens run from {first:?} to {last:?}, tokens are {tokens}")));
    }
    Ok(())
}
