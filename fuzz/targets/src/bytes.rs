//! Decisions drawn from the bytes of an input. When they run out, every decision is the first choice.

/// The unread rest of an input.
pub(crate) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Bytes(input)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        byte
    }

    /// Draws a number below `end`, which is at most 256. Returns 0 if `end` is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()).checked_rem(end).unwrap_or(0)
    }

    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Takes up to `length` bytes.
    pub(crate) fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Takes a short run of bytes.
    pub(crate) fn some(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte());
        self.take(length)
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.0)
    }

    /// Draws how much of `length` is done this time: all of it in half of the cases.
    pub(crate) fn part_of(&mut self, length: usize) -> usize {
        match self.byte() {
            byte @ 0..128 => length.min(usize::from(byte)),
            _ => length,
        }
    }
}

/// Cuts `whole` at places that depend on `cuts`, and calls `each` with every piece.
pub(crate) fn in_pieces<'a>(whole: &'a [u8], cuts: u8, mut each: impl FnMut(&'a [u8])) {
    let mut rest = whole;
    let mut state = u32::from(cuts);
    while !rest.is_empty() {
        // The generator of Numerical Recipes. Any would do.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = match cuts {
            0 => rest.len(),
            1 => 1,
            _ => 1 + (state >> 16) as usize % 17,
        };
        let (piece, later) = rest.split_at(length.min(rest.len()));
        each(piece);
        rest = later;
    }
}
