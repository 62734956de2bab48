//! Ops that write where they read: an output takes the place of an operand that nothing reads any more.
//!
//! Nothing overlaps in doing so: the operand is passed as the output alone, which the op rewrites or adds to.
//! - what `plan::op::in_place` lists: rope, the gradients of activation functions;
//! - the gradient of a norm adds to the gradient that reaches its sum on other ways;
//! - a sum of two values adds one to the other.

use plan::op::{Op, OpKind, Output, Write, in_place};
use plan::program::{Module, Program};
use plan::value::{Role, Value, ValueId};

/// Rewrites the programs of a module, before it is planned for memory.
pub fn apply(module: &mut Module) {
    for program in &mut module.programs {
        let mut pass = Pass::new(&module.values, program);
        for (index, op) in program.ops.iter_mut().enumerate() {
            pass.rename(op);
            pass.rewrite(index, op);
        }
    }
}

/// State of the pass over one program.
struct Pass<'m> {
    values: &'m [Value],
    /// First and last op that touch each value.
    spans: Vec<(usize, usize)>,
    /// The value under whose name each lives on, if not its own.
    renamed: Vec<Option<ValueId>>,
}

impl<'m> Pass<'m> {
    fn new(values: &'m [Value], program: &Program) -> Self {
        let mut spans = vec![(usize::MAX, 0); values.len()];
        for (index, op) in program.ops.iter().enumerate() {
            for id in op.values() {
                let span = &mut spans[id.index()];
                *span = (span.0.min(index), index);
            }
        }
        Pass { values, spans, renamed: vec![None; values.len()] }
    }

    fn rename(&self, op: &mut Op) {
        let outputs = op.outputs.iter_mut().map(|output| &mut output.value);
        for id in op.inputs.iter_mut().chain(outputs) {
            *id = self.renamed[id.index()].unwrap_or(*id);
        }
    }

    fn rewrite(&mut self, index: usize, op: &mut Op) {
        let pairs = in_place(&op.kind);
        if !pairs.is_empty() && pairs.iter().all(|&(from, to)| self.may_take(index, op, from, to)) {
            for &(from, to) in pairs {
                self.take(op, from, to, Write::Update);
            }
            let mut at = 0..op.inputs.len();
            op.inputs.retain(|_| at.next().is_some_and(|at| pairs.iter().all(|(from, _)| *from != at)));
            return;
        }
        match op.kind {
            OpKind::RmsNormGrad => self.add_to_last(index, op, 4),
            OpKind::LayerNormGrad => self.add_to_last(index, op, 5),
            OpKind::Add => {
                let Some(from) = [0, 1].into_iter().find(|&from| self.may_take(index, op, from, 0)) else {
                    return;
                };
                self.take(op, from, 0, Write::Add);
                op.inputs.remove(from);
                op.kind = OpKind::Copy;
            }
            _ => {} // no other op writes where it reads
        }
    }

    /// Makes an op that adds its last operand to its first output write to that operand.
    fn add_to_last(&mut self, index: usize, op: &mut Op, last: usize) {
        if self.may_take(index, op, last, 0) {
            self.take(op, last, 0, Write::Add);
            op.inputs.pop();
        }
    }

    /// Whether an output is new with this op, and an operand like it ends with it.
    fn may_take(&self, index: usize, op: &Op, from: usize, to: usize) -> bool {
        let (Some(&from), Some(&Output { value: to, write })) = (op.inputs.get(from), op.outputs.get(to))
        else {
            return false;
        };
        let (a, b) = (&self.values[from.index()], &self.values[to.index()]);
        let is_once = op.inputs.iter().filter(|input| **input == from).count() == 1;
        [a.role, b.role] == [Role::Activation; 2]
            && (a.dtype, &a.shape) == (b.dtype, &b.shape)
            && is_once
            && write == Write::Set
            && self.spans[from.index()].1 == index
            && self.spans[to.index()].0 == index
    }

    /// Makes an output live on as the operand.
    fn take(&mut self, op: &mut Op, from: usize, to: usize, write: Write) {
        let (old, new) = (op.inputs[from], op.outputs[to].value);
        self.spans[old.index()].1 = self.spans[new.index()].1;
        self.renamed[new.index()] = Some(old);
        op.outputs[to] = Output { value: old, write };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::set;
    use plan::op::Activation;
    use plan::value::Dtype;

    /// Activations `a`, `b` … of one shape, set by copies of `x`, then the op, then what is read of them.
    fn rewritten(kind: OpKind, inputs: &[usize], outputs: &[usize], read_later: &[usize]) -> Op {
        let mut module = Module::default();
        let x = module.value("x", Dtype::F32, Role::Batch, vec![4.into()]);
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        let ids = names.map(|name| module.value(name, Dtype::F32, Role::Activation, vec![4.into()]));
        let of = |places: &[usize]| places.iter().map(|&at| ids[at]).collect::<Vec<_>>();
        let mut ops: Vec<Op> =
            of(inputs).into_iter().map(|id| Op::new(OpKind::Copy, vec![x], vec![set(id)], "r")).collect();
        let at = ops.len();
        ops.push(Op::new(kind, of(inputs), of(outputs).into_iter().map(set).collect(), "r"));
        let y = module.value("y", Dtype::F32, Role::Batch, vec![4.into()]);
        let reads = of(read_later).into_iter().chain(of(outputs));
        ops.extend(reads.map(|id| Op::new(OpKind::Copy, vec![id], vec![set(y)], "r")));
        module.programs.push(Program { name: "p".into(), ops });
        apply(&mut module);
        crate::passes::memory::assign(&mut module);
        module.programs[0].ops[at].clone()
    }

    fn shown(op: &Op) -> (Vec<u32>, Vec<(u32, Write)>) {
        let inputs = op.inputs.iter().map(|id| id.0).collect();
        (inputs, op.outputs.iter().map(|output| (output.value.0, output.write)).collect())
    }

    #[test]
    fn what_dies_gives_its_place() {
        let grad = OpKind::GatedActGrad { f: Activation::Silu };
        let op = rewritten(grad.clone(), &[0, 1, 2], &[3, 4], &[]);
        assert_eq!(shown(&op), (vec![1], vec![(2, Write::Update), (3, Write::Update)]));
        // One of the two is read later, so neither is rewritten.
        let op = rewritten(grad, &[0, 1, 2], &[3, 4], &[2]);
        assert_eq!(shown(&op), (vec![1, 2, 3], vec![(4, Write::Set), (5, Write::Set)]));
    }

    #[test]
    fn sums_add_to_the_operand_that_dies() {
        assert_eq!(shown(&rewritten(OpKind::Add, &[0, 1], &[2], &[])), (vec![2], vec![(1, Write::Add)]));
        let op = rewritten(OpKind::Add, &[0, 1], &[2], &[0]);
        assert_eq!((op.kind.clone(), shown(&op)), (OpKind::Copy, (vec![1], vec![(2, Write::Add)])));
        let both = shown(&rewritten(OpKind::Add, &[0, 1], &[2], &[0, 1]));
        assert_eq!(both, (vec![1, 2], vec![(3, Write::Set)]));
        // A value twice is no operand that dies.
        assert_eq!(shown(&rewritten(OpKind::Add, &[0, 0], &[2], &[])).1, [(3, Write::Set)]);
    }

    #[test]
    fn a_norm_adds_to_the_gradient_of_its_sum() {
        let op = rewritten(OpKind::RmsNormGrad, &[0, 1, 2, 3, 4], &[5], &[]);
        assert_eq!(shown(&op), (vec![1, 2, 3, 4], vec![(5, Write::Add)]));
        let op = rewritten(OpKind::RmsNormGrad, &[0, 1, 2, 3], &[5], &[]);
        assert_eq!(shown(&op).1, [(6, Write::Set)]);
    }
}
