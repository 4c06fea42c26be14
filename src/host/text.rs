//! Text made of fields: where its separators are, and fields of digits as numbers, many bytes at a
//! time.
//!
//! It lives here because it needs an instruction set chosen at run time and `unsafe`; it knows
//! tabs, line feeds and digits, but no format. Eight fields are read at once: eight characters
//! each, behind leading zeros (the bytes in front of a shorter field are replaced), pairs of digits
//! joined three times over.

#[cfg(target_arch = "x86_64")]
mod x86;

use super::Isa;

/// Fields that are read at once.
pub const GROUP: usize = 8;
/// Characters of the longest field.
pub const LONGEST: usize = 8;
/// Bytes of which separators are looked for at once.
const BLOCK: usize = 64;
/// A byte eight times.
const EACH: u64 = 0x0101_0101_0101_0101;

/// How digits are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// `0` to `9`.
    Decimal,
    /// Also `a` to `f` and `A` to `F`.
    Hexadecimal,
}

/// Where the separators of a text are.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Separators {
    /// Places of all tabs and line feeds, in order.
    pub at: Vec<u32>,
    /// Which of [`Separators::at`] are line feeds.
    pub lines: Vec<u32>,
}

impl Separators {
    /// Finds all of `text`; what was there before is forgotten.
    ///
    /// # Panics
    /// If `text` has 4 GiB or more.
    pub fn find(&mut self, isa: Isa, text: &[u8]) {
        assert!(text.len() < u32::MAX as usize, "a text of {} bytes", text.len());
        self.at.clear();
        self.lines.clear();
        match isa {
            // SAFETY: an `Isa` other than `Portable` is only made where the machine has it;
            // operations on bytes are asked for.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Bf16 if x86::has_bytes() => unsafe {
                x86::find_avx512(self, text)
            },
            // SAFETY: as above; AVX-512 includes AVX2.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 | Isa::Avx512Bf16 => unsafe { x86::find_avx2(self, text) },
            // SAFETY: plain Rust.
            _ => unsafe { find::<Plain>(self, text) },
        }
    }
}

/// Reads columns of eight fields: `out[c][i]` is the number in the `lens[c][i]` bytes of `text`
/// before `ends[c][i]`, 0 if there are none. Whether all of them are digits; if not, the numbers
/// mean nothing.
///
/// # Panics
/// If the slices differ in length, or a field ends before byte 8 or behind the text, or is longer
/// than [`LONGEST`].
pub fn read(
    isa: Isa,
    base: Base,
    text: &[u8],
    ends: &[[u32; GROUP]],
    lens: &[[u32; GROUP]],
    out: &mut [[u32; GROUP]],
) -> bool {
    let columns = Columns { text, ends, lens };
    match isa {
        // SAFETY: an `Isa` other than `Portable` is only made where the machine has it; operations
        // on bytes are asked for.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Bf16 if x86::has_bytes() => unsafe {
            x86::read_avx512(base, columns, out)
        },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512 | Isa::Avx512Bf16 => unsafe { x86::read_avx2(base, columns, out) },
        // SAFETY: plain Rust.
        _ => unsafe { columns.read::<Plain>(base, out) },
    }
}

/// What an instruction set must do.
///
/// # Safety
/// All methods need the instruction set of the implementation, and readable bytes where they say
/// so.
trait Bytes {
    /// Which of the 64 bytes at `p` are tabs, and which are line feeds; bit 0 is the first byte.
    unsafe fn masks(p: *const u8) -> (u64, u64);
    /// Eight fields; `text[ends[i] - 8..ends[i]]` must be readable, `lens[i]` at most 8.
    unsafe fn group(
        base: Base,
        text: *const u8,
        ends: &[u32; GROUP],
        lens: &[u32; GROUP],
        out: &mut [u32; GROUP],
    ) -> bool;
}

#[derive(Clone, Copy)]
struct Columns<'a> {
    text: &'a [u8],
    ends: &'a [[u32; GROUP]],
    lens: &'a [[u32; GROUP]],
}

impl Columns<'_> {
    /// # Safety
    /// The machine must have the instruction set of `B`.
    #[inline(always)]
    unsafe fn read<B: Bytes>(self, base: Base, out: &mut [[u32; GROUP]]) -> bool {
        let Columns { text, ends, lens } = self;
        assert!(
            ends.len() == lens.len() && ends.len() == out.len(),
            "columns of different lengths"
        );
        let (first, last) =
            ends.as_flattened().iter().fold((u32::MAX, 0), |(a, b), &e| (a.min(e), b.max(e)));
        let longest = lens.as_flattened().iter().fold(0, |a, &l| a.max(l));
        let within =
            first >= LONGEST as u32 && last as usize <= text.len() && longest <= LONGEST as u32;
        assert!(within, "a field of {longest} bytes between {first} and {last} of {}", text.len());
        let mut good = true;
        for ((ends, lens), out) in ends.iter().zip(lens).zip(out) {
            // SAFETY: every field and the eight bytes before its end lie within the text by the
            // assertion.
            good &= unsafe { B::group(base, text.as_ptr(), ends, lens, out) };
        }
        good
    }
}

/// # Safety
/// The machine must have the instruction set of `B`.
#[inline(always)]
unsafe fn find<B: Bytes>(found: &mut Separators, text: &[u8]) {
    let mut blocks = text.chunks_exact(BLOCK);
    let mut start = 0;
    for block in &mut blocks {
        // SAFETY: a block has 64 bytes.
        found.push(start, unsafe { B::masks(block.as_ptr()) });
        start += BLOCK as u32;
    }
    let mut last = [0; BLOCK];
    last[..blocks.remainder().len()].copy_from_slice(blocks.remainder());
    // SAFETY: as above. Zeros are no separators.
    found.push(start, unsafe { B::masks(last.as_ptr()) });
}

impl Separators {
    #[inline(always)]
    fn push(&mut self, start: u32, (tabs, feeds): (u64, u64)) {
        let before = self.at.len();
        let mut both = tabs | feeds;
        let n = both.count_ones() as usize;
        self.at.reserve(BLOCK);
        let mut to = self.at.as_mut_ptr().wrapping_add(before);
        // Four at a time: most blocks have some ten, and a loop of unknown length is guessed wrong
        // at its end.
        while both != 0 {
            for _ in 0..4 {
                // SAFETY: at most 64 separators in steps of four, and there is room for 64. What is
                // written behind the last one is not kept.
                unsafe { to.write(start + (both.trailing_zeros() & 63)) };
                to = to.wrapping_add(1);
                both &= both.wrapping_sub(1);
            }
        }
        // SAFETY: `n` were written behind those that were there.
        unsafe { self.at.set_len(before + n) };
        let mut left = feeds;
        while left != 0 {
            let below = (left & left.wrapping_neg()) - 1;
            self.lines.push(before as u32 + ((tabs | feeds) & below).count_ones());
            left &= left - 1;
        }
    }
}

/// Eight bytes a word; what any machine can do.
struct Plain;

/// The highest bit of every byte of `x` that equals `byte`.
#[inline(always)]
fn equal(x: u64, byte: u8) -> u64 {
    let low = 0x7f * EACH;
    let x = x ^ (u64::from(byte) * EACH);
    !(((x & low) + low) | x | low)
}

/// The highest bits of the bytes as a number of eight bits.
#[inline(always)]
fn gather_bits(high: u64) -> u64 {
    (high & (0x80 * EACH)).wrapping_mul(0x0002_0408_1020_4081) >> 56
}

/// The highest bit of every byte of `x` (all below 128) that is at least `low` and at most `high`.
#[inline(always)]
fn between(x: u64, low: u8, high: u8) -> u64 {
    (x + u64::from(0x80 - low) * EACH) & !(x + u64::from(0x7f - high) * EACH)
}

impl Plain {
    /// The number in eight characters; `None` if one is no digit.
    #[inline(always)]
    fn number(base: Base, v: u64) -> (u32, bool) {
        let ascii = v & (0x80 * EACH) == 0;
        let v = v & (0x7f * EACH);
        let digit = between(v, b'0', b'9');
        match base {
            Base::Decimal => {
                let d = v & (0x0f * EACH);
                // Pairs of digits, of pairs, of fours; the first character is the lowest byte and
                // counts most.
                let pairs = (d.wrapping_mul(10) + (d >> 8)) & 0x00ff_00ff_00ff_00ff;
                let fours = (pairs.wrapping_mul(100) + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
                let all = fours.wrapping_mul(10_000).wrapping_add(fours >> 32);
                (all as u32, ascii && digit & (0x80 * EACH) == 0x80 * EACH)
            }
            Base::Hexadecimal => {
                let letter = between(v | (0x20 * EACH), b'a', b'f');
                let d = (v & (0x0f * EACH)) + ((v >> 6) & EACH) * 9;
                let pairs = ((d << 4) | (d >> 8)) & 0x00ff_00ff_00ff_00ff;
                let fours = ((pairs << 8) | (pairs >> 16)) & 0x0000_ffff_0000_ffff;
                let all = (fours << 16) | (fours >> 32);
                (all as u32, ascii && (digit | letter) & (0x80 * EACH) == 0x80 * EACH)
            }
        }
    }
}

impl Bytes for Plain {
    #[inline(always)]
    unsafe fn masks(p: *const u8) -> (u64, u64) {
        let (mut tabs, mut feeds) = (0, 0);
        for i in 0..BLOCK / 8 {
            // SAFETY: within the 64 bytes that the caller has.
            let x = u64::from_le_bytes(unsafe { p.add(8 * i).cast::<[u8; 8]>().read() });
            tabs |= gather_bits(equal(x, b'\t')) << (8 * i);
            feeds |= gather_bits(equal(x, b'\n')) << (8 * i);
        }
        (tabs, feeds)
    }

    #[inline(always)]
    unsafe fn group(
        base: Base,
        text: *const u8,
        ends: &[u32; GROUP],
        lens: &[u32; GROUP],
        out: &mut [u32; GROUP],
    ) -> bool {
        let mut good = true;
        for ((&end, &len), out) in ends.iter().zip(lens).zip(out) {
            // SAFETY: the caller has the eight bytes before `end`.
            let v = u64::from_le_bytes(unsafe {
                text.add(end as usize - LONGEST).cast::<[u8; 8]>().read()
            });
            let keep = u64::MAX.checked_shl(64 - 8 * len).unwrap_or(0);
            let (number, digits) =
                Plain::number(base, (v & keep) | ((u64::from(b'0') * EACH) & !keep));
            *out = number;
            good &= digits;
        }
        good
    }
}

#[cfg(test)]
mod tests;
