//! Ranks in one process: they meet at barriers and read what the others have written into shared buffers.

use super::Collective;
use crate::error::{EngineError, Result};
use crate::sync::{AtomicUsize, Condvar, Mutex, MutexGuard, Ordering, RwLock};
use plan::program::SHOWN_BYTES;
use std::cell::RefCell;
use std::sync::{Arc, PoisonError};

/// Bytes that a rank shows to the others at a time; that and as much again is all the memory this takes.
const PIECE: usize = SHOWN_BYTES as usize;

/// Bytes of a number that is summed.
const NUMBER: usize = size_of::<f32>();

/// One rank among threads.
#[derive(Debug)]
pub struct Threads {
    rank: usize,
    group: Arc<Group>,
    /// Exchanges done; every rank has done as many, or one more.
    exchanges: AtomicUsize,
}

#[derive(Debug)]
struct Group {
    /// What each rank shows, in turns: while one set is read, no one is two exchanges ahead to write to it.
    shown: [Vec<RwLock<Vec<u8>>>; 2],
    meeting: Mutex<Meeting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Meeting {
    arrived: usize,
    number: u64,
    /// Why there will be no further meeting.
    failure: Option<EngineError>,
}

impl Threads {
    /// Makes a group of so many ranks.
    pub fn group(ranks: usize) -> Vec<Threads> {
        // Room for a whole piece, of which only what is used becomes memory; growing would leave more.
        let shown = || (0..ranks).map(|_| RwLock::new(Vec::with_capacity(PIECE))).collect();
        let (meeting, changed) = (Mutex::new(Meeting::default()), Condvar::new());
        let group = Arc::new(Group { shown: [shown(), shown()], meeting, changed });
        let rank = |rank| Threads { rank, group: group.clone(), exchanges: AtomicUsize::new(0) };
        (0..ranks).map(rank).collect()
    }

    /// Ends all exchanges, those that wait and those to come; the first error is the one that counts.
    pub fn fail(&self, error: &EngineError) {
        self.group.locked().failure.get_or_insert_with(|| error.clone());
        self.group.changed.notify_all();
    }

    /// Returns why there will be no more exchanges, if so.
    pub fn failure(&self) -> Option<EngineError> {
        self.group.locked().failure.clone()
    }

    /// Shows bytes to all ranks, and reads what each has shown, in their order.
    fn exchange(&self, show: impl FnOnce(&mut Vec<u8>), mut read: impl FnMut(usize, &[u8])) -> Result<()> {
        let turn = self.exchanges.fetch_add(1, Ordering::Relaxed);
        let shown = &self.group.shown[turn % 2];
        {
            let mut own = shown[self.rank].write().unwrap_or_else(PoisonError::into_inner);
            own.clear();
            show(&mut own);
        }
        self.group.meet()?;
        for (rank, bytes) in shown.iter().enumerate() {
            read(rank, &bytes.read().unwrap_or_else(PoisonError::into_inner));
        }
        Ok(())
    }
}

impl Group {
    fn locked(&self) -> MutexGuard<'_, Meeting> {
        self.meeting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for all ranks.
    fn meet(&self) -> Result<()> {
        let mut meeting = self.locked();
        if let Some(failure) = &meeting.failure {
            return Err(failure.clone());
        }
        meeting.arrived += 1;
        let number = meeting.number;
        if meeting.arrived == self.shown[0].len() {
            meeting.arrived = 0;
            meeting.number += 1;
            self.changed.notify_all();
            return Ok(());
        }
        while meeting.number == number && meeting.failure.is_none() {
            meeting = self.changed.wait(meeting).unwrap_or_else(PoisonError::into_inner);
        }
        match &meeting.failure {
            Some(failure) if meeting.number == number => Err(failure.clone()),
            _ => Ok(()),
        }
    }
}

impl Collective for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.group.shown[0].len()
    }

    fn all_gather(&self, part: &[u8], whole: &mut [u8]) -> Result<()> {
        for start in (0..part.len()).step_by(PIECE) {
            let piece = &part[start..(start + PIECE).min(part.len())];
            self.exchange(
                |shown| shown.extend_from_slice(piece),
                |rank, bytes| {
                    let from = (rank * part.len() + start).min(whole.len());
                    let to = (from + bytes.len()).min(whole.len());
                    whole[from..to].copy_from_slice(&bytes[..to - from]);
                },
            )?;
        }
        Ok(())
    }

    fn reduce_scatter(&self, whole: &[f32], part: &mut [f32], add: bool) -> Result<()> {
        let (ranks, length) = (self.ranks(), part.len());
        let at_once = (PIECE / NUMBER / ranks).max(1);
        if !add {
            part.fill(0.0);
        }
        for (index, piece) in part.chunks_mut(at_once).enumerate() {
            let (first, count) = (index * at_once, piece.len());
            let show = |shown: &mut Vec<u8>| {
                for owner in 0..ranks {
                    let from = (owner * length + first).min(whole.len());
                    let to = (from + count).min(whole.len());
                    shown.extend_from_slice(bytemuck::cast_slice(&whole[from..to]));
                    shown.resize((owner + 1) * count * NUMBER, 0);
                }
            };
            let own = self.rank * count * NUMBER..(self.rank + 1) * count * NUMBER;
            self.exchange(show, |_, bytes| add_numbers(piece, &bytes[own.clone()]))?;
        }
        Ok(())
    }

    fn all_reduce(&self, numbers: &mut [f32]) -> Result<()> {
        for piece in numbers.chunks_mut(PIECE / NUMBER) {
            // What is shown is a copy, so that the piece may become the sum.
            let piece = RefCell::new(piece);
            let show = |shown: &mut Vec<u8>| shown.extend_from_slice(bytemuck::cast_slice(&piece.borrow()));
            self.exchange(show, |rank, bytes| {
                let mut piece = piece.borrow_mut();
                if rank == 0 {
                    piece.fill(0.0);
                }
                add_numbers(&mut piece, bytes);
            })?;
        }
        Ok(())
    }
}

/// Adds numbers that another rank has shown; its bytes need not be aligned.
fn add_numbers(sums: &mut [f32], shown: &[u8]) {
    for (sum, number) in sums.iter_mut().zip(shown.chunks_exact(NUMBER)) {
        *sum += bytemuck::pod_read_unaligned::<f32>(number);
    }
}

#[cfg(all(loom, test))]
mod models;
#[cfg(all(not(loom), test))]
mod tests;
