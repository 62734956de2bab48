//! The rows of a batch: where their tokens lie, and what their queries see.

use super::KEYS;
use crate::backend::{Draw, OpError};
use crate::check::{check_prefixes, check_rows};
use crate::cpu::product::GRAIN;
use crate::random::stream;
use crate::view::View;
use plan::op::Attention;
use std::ops::Range;

/// Tokens from which on a row's gradient is shared out by heads, where several share keys: of such rows a batch has few.
const LONG: usize = 2048;

/// A row of the batch, and where its tokens lie.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) first: usize,
    pub(super) len: usize,
    pub(super) number: u32,
    /// Tokens of its trunk that it goes on from, the position of its own first one.
    pub(super) prefix: usize,
    /// First token of its trunk.
    pub(super) trunk: usize,
}

impl Row {
    /// Returns the tiles of keys before the position `end`: those of the prefix, then the row's own.
    #[inline(always)]
    pub(super) fn keys(self, end: usize) -> impl Iterator<Item = Keys> {
        let tiles = |first: usize, range: Range<usize>| {
            let Range { start, end } = range;
            range.step_by(KEYS).map(move |position| Keys {
                position,
                token: first + position - start,
                present: KEYS.min(end - position),
            })
        };
        tiles(self.trunk, 0..self.prefix).chain(tiles(self.first, self.prefix..end))
    }
}

/// A tile of keys: position and token of the first, and their number.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    pub(super) position: usize,
    pub(super) token: usize,
    pub(super) present: usize,
}

/// The operands of a task: attributes, rows and strides.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) attention: &'a Attention,
    pub(super) cu: &'a [i32],
    pub(super) numbers: &'a [i32],
    /// Empty where every row begins anew.
    prefixes: &'a [i32],
    pub(super) key: [u32; 2],
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) dim: usize,
    /// `dim` rounded up.
    pub(super) wide: usize,
}

impl<'a> Job<'a> {
    /// Takes `cu_seqlens, row_numbers, prefixes?`.
    pub(super) fn new(
        attention: &'a Attention,
        rows: &[View<'a>],
        draw: Draw,
        (op, tokens): (&str, usize),
    ) -> Result<Self, OpError> {
        let (cu, numbers) = (rows[0].i32(), rows[1].i32());
        let prefixes = rows.get(2).map_or(&[][..], View::i32);
        check_rows(op, cu, tokens)?;
        check_prefixes(op, cu, prefixes)?;
        let dim = attention.head_dim as usize;
        let site = attention.dropout.map_or(0, |dropout| dropout.site);
        Ok(Job {
            attention,
            cu,
            numbers,
            prefixes,
            key: stream(draw.seed, draw.step, site),
            heads: attention.heads as usize,
            kv_heads: attention.kv_heads as usize,
            dim,
            wide: dim.next_multiple_of(GRAIN),
        })
    }

    pub(super) fn row(&self, row: usize) -> Row {
        let (first, end) = (self.cu[row] as usize, self.cu[row + 1] as usize);
        let (prefix, trunk) = (self.prefix(row), self.cu[self.trunk(row)] as usize);
        Row { first, len: end - first, number: self.numbers[row] as u32, prefix, trunk }
    }

    /// Returns the row that a row goes on from: itself, where it begins anew.
    pub(super) fn trunk(&self, row: usize) -> usize {
        let mut trunk = row;
        while self.prefix(trunk) > 0 {
            trunk -= 1; // the first row has no prefix
        }
        trunk
    }

    pub(super) fn prefix(&self, row: usize) -> usize {
        self.prefixes.get(row).map_or(0, |&prefix| prefix as usize)
    }

    /// Returns a trunk and the rows that go on from it; nothing for one of those.
    pub(super) fn family(&self, trunk: usize) -> Range<usize> {
        if self.prefix(trunk) > 0 {
            return trunk..trunk;
        }
        let rows = trunk + 1..self.numbers.len();
        trunk..rows.clone().find(|&row| self.prefix(row) == 0).unwrap_or(rows.end)
    }

    /// Returns the tokens of the longest row.
    pub(super) fn longest(&self) -> usize {
        self.cu.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0) as usize
    }

    /// Returns whether each head has tasks of its own for the gradient of a family: as its length says, so that the bits
    /// of a row do not depend on those beside it.
    pub(super) fn by_heads(&self, family: &Range<usize>) -> bool {
        self.group() > 1 && (self.cu[family.end] - self.cu[family.start]) as usize >= LONG
    }

    /// Returns the rough work of the whole op.
    pub(super) fn work(&self) -> usize {
        let seen = |(row, pair): (usize, &[i32])| {
            let len = (pair[1] - pair[0]) as usize;
            len * (len + 2 * self.prefix(row))
        };
        self.cu.windows(2).enumerate().map(seen).sum::<usize>() * self.heads * (self.dim / 8 + 1)
    }

    pub(super) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Returns the first position that a query sees.
    #[inline(always)]
    fn oldest(&self, query: usize) -> usize {
        self.attention.window.map_or(0, |window| (query + 1).saturating_sub(window as usize))
    }

    /// Returns whether the window hides a whole tile of keys from `query` and all later ones.
    #[inline(always)]
    pub(super) fn hides(&self, query: usize, keys: Keys) -> bool {
        self.oldest(query) >= keys.position + keys.present
    }
}
