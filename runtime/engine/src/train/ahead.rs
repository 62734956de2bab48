//! The rows of the next step, laid out on a thread of their own while the present step computes.
//!
//! Which rows a step has follows from its number alone, so that nothing depends on when they are read.
//! Two sets of buffers go back and forth; once they are large enough, nothing is allocated.

use super::Rows;
use crate::batch;
use crate::error::{EngineError, Result};
use crate::executor::Executor;
use crate::mailbox::{Receiver, Sender, mailbox};
use data::{Batches, MicroBatch, Sequence, Store};
use plan::work::extent;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

/// The rows of one step, as its micro-steps take them.
#[derive(Debug, Default)]
pub struct Laid {
    /// The first `count` are of this step, those that ranks take at once side by side; the others are buffers.
    buffers: Vec<MicroBatch>,
    count: usize,
    ranks: usize,
}

impl Laid {
    /// Returns the micro-steps, in order.
    pub fn micros(&self) -> &[MicroBatch] {
        &self.buffers[..self.count]
    }

    /// Returns what the ranks take at once, in their order; without rows where a rank has none left.
    pub fn rounds(&self) -> std::slice::Chunks<'_, MicroBatch> {
        self.micros().chunks(self.ranks.max(1))
    }
}

/// Lays out one step ahead.
#[derive(Debug)]
pub struct Ahead {
    thread: Option<Reading>,
    /// The step that was asked for last and has not been taken.
    asked: Option<u64>,
    steps: u64,
}

/// The thread, and the ways to it and from it.
#[derive(Debug)]
struct Reading {
    asked: Sender<(u64, Laid)>,
    ready: Receiver<std::thread::Result<Laid>>,
    thread: JoinHandle<()>,
}

/// What the thread reads, and how it cuts it.
#[derive(Debug)]
pub struct Source {
    store: Arc<Store>,
    batches: Arc<Batches>,
    micro_batch_size: u64,
    /// Whether the second row of a pair goes on from the first.
    share: bool,
    ranks: usize,
    /// Capacities of a micro-step: tokens, rows, trained tokens.
    room: [usize; 3],
}

impl Ahead {
    /// Starts the thread of a stage of so many steps.
    pub fn new(source: Source, steps: u64) -> Result<Ahead> {
        let ((asked, steps_asked), (laid, ready)) = (mailbox(), mailbox());
        let named = std::thread::Builder::new().name("rows".into());
        let thread = named.spawn(move || serve(&source, &steps_asked, &laid)).map_err(|error| {
            EngineError::new("out-of-memory", format!("cannot start the thread that reads rows: {error}"))
                .help("let the process have more threads")
        })?;
        Ok(Ahead { thread: Some(Reading { asked, ready, thread }), asked: None, steps })
    }

    /// Returns the rows of a step and has those of the next laid out into the buffers of the last.
    ///
    /// # Panics
    /// Panics when reading these very rows did.
    pub fn step(&mut self, index: u64, used: Laid) -> Laid {
        if self.asked != Some(index) {
            // The first step, or one that was not foreseen: what lies ready is of another one.
            drop(self.asked.take().map(|_| self.reading().ready.recv()));
            self.ask(index, Laid::default());
        }
        let laid = self.reading().ready.recv().expect("the thread ends after `Ahead`");
        self.asked = None;
        let laid = laid.unwrap_or_else(|panic| resume_unwind(panic));
        if index + 1 < self.steps {
            self.ask(index + 1, used);
        }
        laid
    }

    fn ask(&mut self, index: u64, buffers: Laid) {
        let sent = self.reading().asked.send((index, buffers));
        assert!(sent.is_ok(), "the thread ends after `Ahead`");
        self.asked = Some(index);
    }

    fn reading(&self) -> &Reading {
        self.thread.as_ref().expect("only `drop` takes it")
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if let Some(Reading { asked, thread, .. }) = self.thread.take() {
            drop(asked);
            // Its panics were sent with what it has laid out.
            let _ = thread.join();
        }
    }
}

/// Lays out what is asked for until training is over.
fn serve(source: &Source, asked: &Receiver<(u64, Laid)>, laid: &Sender<std::thread::Result<Laid>>) {
    while let Some((index, buffers)) = asked.recv() {
        // Nobody takes it when training is over.
        let _ = laid.send(catch_unwind(AssertUnwindSafe(|| source.lay_out(index, buffers))));
    }
}

impl Source {
    /// Takes the rows of a stage as its plan cuts them.
    pub fn new(rows: &Rows, executor: &Executor) -> Source {
        let room = |name| executor.capacity(name).map(|capacity| capacity as usize);
        let tokens = room(extent::TOKENS).unwrap_or(0);
        let rows_at_once = room(extent::ROWS).unwrap_or(0).min(tokens);
        Source {
            store: rows.train.clone(),
            batches: rows.batches.clone(),
            micro_batch_size: executor.module().decisions.micro_batch_size,
            share: batch::shares(executor, "micro"),
            ranks: executor.ranks(),
            room: [tokens, rows_at_once, room(extent::TRAINED).unwrap_or(tokens)],
        }
    }

    /// Lays out the rows of a step.
    fn lay_out(&self, index: u64, mut laid: Laid) -> Laid {
        let per_epoch = self.batches.steps_per_epoch();
        let epoch = self.batches.epoch(index / per_epoch);
        let step = epoch.step(index % per_epoch);
        let of_rank = |rank| self.batches.micro_steps(dealt(step, self.ranks, rank), self.micro_batch_size);
        laid.ranks = self.ranks;
        // The first rank has as many as any.
        laid.count = self.ranks * of_rank(0).len();
        let [tokens, rows, trained] = self.room;
        let empty = || MicroBatch::with_capacity(tokens, rows, trained);
        laid.buffers.resize_with(laid.count.max(laid.buffers.len()), empty);
        for (at, micro) in laid.buffers[..laid.count].iter_mut().enumerate() {
            let sequences = of_rank(at % self.ranks).nth(at / self.ranks);
            micro.fill(&self.store, sequences.unwrap_or_default(), self.share);
        }
        laid
    }
}

/// Returns a rank's part of the sequences of a step; those that do not divide go to the first ranks.
fn dealt(step: &[Sequence], ranks: usize, rank: usize) -> &[Sequence] {
    let (each, more) = (step.len() / ranks, step.len() % ranks);
    let start = |rank: usize| rank * each + rank.min(more);
    &step[start(rank)..start(rank + 1)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use data::store::TokenRow;
    use data::{BatchSpec, Side, StoreWriter};
    use plan::work::{Batch, Order, Unit};

    /// Thirteen rows in steps of four, micro-steps of three.
    fn source() -> (tempfile::TempDir, Source) {
        let place = tempfile::tempdir().expect("a temporary folder");
        let path = place.path().join("store");
        let mut writer = StoreWriter::create(&path, &["a".into()]).expect("created");
        for row in 0..13_u32 {
            let ids: Vec<u32> = (0..2 + row % 5).map(|at| 10 * row + at).collect();
            let row = TokenRow { mask: vec![1; ids.len()], ids, ..TokenRow::default() };
            writer.push(Side::Train, &row).expect("pushed");
        }
        writer.finish().expect("finished");
        let store = Store::open(&path, Side::Train).expect("sound");
        let (unit, batch, order) = (Unit::Tokens, Batch::Sequences(4), Order::Shuffled);
        let spec = BatchSpec { unit, batch, order, sequence: 8, pack: false, seed: 3 };
        let batches = Arc::new(Batches::new(&store, &spec));
        let room = [64, 8, 64];
        let source =
            Source { store: Arc::new(store), batches, micro_batch_size: 3, share: false, ranks: 1, room };
        (place, source)
    }

    #[test]
    fn every_step_is_what_it_would_be_without_looking_ahead() {
        let (_place, direct) = source();
        let (_other, ahead) = source();
        let mut ahead = Ahead::new(ahead, 11).expect("started");
        let mut laid = Laid::default();
        // Over the ends of epochs, from the middle on, and with a step that comes unforeseen.
        for index in [0, 1, 2, 3, 4, 5, 9, 10, 2, 3] {
            laid = ahead.step(index, laid);
            assert_eq!(laid.micros(), direct.lay_out(index, Laid::default()).micros(), "step {index}");
            assert_eq!(laid.micros().len(), if index % 4 == 3 { 1 } else { 2 }, "step {index}");
        }
    }

    #[test]
    fn ranks_share_a_step() {
        let (_place, one) = source();
        let (_other, mut three) = source();
        (three.ranks, three.micro_batch_size) = (3, 1);
        let rows = |micros: &mut dyn Iterator<Item = &MicroBatch>| -> Vec<u64> {
            micros.flat_map(|micro| micro.row_ids.clone()).collect()
        };
        for index in 0..8 {
            let laid = three.lay_out(index, Laid::default());
            let taken: Vec<Vec<usize>> =
                laid.rounds().map(|round| round.iter().map(MicroBatch::rows).collect()).collect();
            // Four rows, or the one that is left over at the end of an epoch.
            let expected: &[[usize; 3]] = if index % 4 == 3 { &[[1, 0, 0]] } else { &[[1, 1, 1], [1, 0, 0]] };
            assert_eq!(taken, expected, "step {index}");
            let of_rank = |rank: usize| laid.rounds().filter_map(move |round| round.get(rank));
            let all = rows(&mut (0..3).flat_map(of_rank));
            let alone = one.lay_out(index, Laid::default());
            assert_eq!(all, rows(&mut alone.micros().iter()), "step {index}");
        }
    }

    #[test]
    fn a_failure_comes_with_its_step() {
        let (_place, mut source) = source();
        let (_empty, other) = self::source();
        // Rows 4 to 12 are not there: the step that has the first of them fails, not the one before.
        let path = _empty.path().join("short");
        let mut writer = StoreWriter::create(&path, &["a".into()]).expect("created");
        for row in 0..4 {
            let ids = other.store.row(row).ids.to_vec();
            let row = TokenRow { mask: vec![1; ids.len()], ids, ..TokenRow::default() };
            writer.push(Side::Train, &row).expect("pushed");
        }
        writer.finish().expect("finished");
        let (unit, batch, order) = (Unit::Tokens, Batch::Sequences(4), Order::Sequential);
        let spec = BatchSpec { unit, batch, order, sequence: 8, pack: false, seed: 3 };
        source.batches = Arc::new(Batches::new(&source.store, &spec));
        source.store = Arc::new(Store::open(&path, Side::Train).expect("sound"));
        let mut ahead = Ahead::new(source, 3).expect("started");
        let laid = ahead.step(0, Laid::default());
        assert_eq!(laid.micros().len(), 2);
        assert!(catch_unwind(AssertUnwindSafe(|| ahead.step(1, laid))).is_err());
    }
}
