//! The PNG file: compressed, and then filled up to a length that is the same for every picture of
//! a kind, so that its size tells nothing.

use libdeflater::{CompressionLvl, Compressor};

use super::WIDTH;

/// The lengths that files are filled up to: the first that is enough. A picture on plain paper
/// always takes the first; the last is beyond what any needs.
const LENGTHS: [usize; 4] = [3_072, 3_584, 4_096, 8_192];
/// How hard a file is compressed at first; more takes longer than it gains.
const FAST: i32 = 1;
/// How hard one on plain paper is that is too long otherwise: one in thousands, with a line below.
const TIGHT: i32 = 6;
/// The chunk that fills a file up: ancillary, private, safe to copy.
const FILLING: png::chunk::ChunkType = png::chunk::ChunkType(*b"fiLl");
/// What a file holds besides its compressed data and its filling.
const FRAME: usize = 8 + 25 + 24 + 12 + 12 + 12;

/// Red, green and blue.
pub(super) type Colour = [u8; 3];

/// Writes files. It keeps its memory from one to the next: the compressor takes hundreds of
/// kilobytes, which would be asked of the kernel for each picture.
pub(super) struct Writer {
    fast: Compressor,
    /// Made when it is needed first.
    tight: Option<Compressor>,
    packed: Vec<u8>,
}

fn compressor(level: i32) -> Compressor {
    Compressor::new(CompressionLvl::new(level).expect("a level that it has"))
}

impl Writer {
    pub(super) fn new() -> Self {
        Self { fast: compressor(FAST), tight: None, packed: Vec::new() }
    }

    /// Compresses the data, of plain paper or not; says how many bytes they take then.
    fn compress(&mut self, data: &[u8], plain: bool) -> usize {
        self.packed.resize(self.fast.zlib_compress_bound(data.len()), 0);
        let length = self.fast.zlib_compress(data, &mut self.packed);
        let length = length.expect("the bound is enough");
        if plain && length + FRAME > LENGTHS[0] {
            let tight = self.tight.get_or_insert_with(|| compressor(TIGHT));
            self.packed.resize(tight.zlib_compress_bound(data.len()), 0);
            return tight.zlib_compress(data, &mut self.packed).expect("the bound is enough");
        }
        length
    }

    /// The PNG's own chunks, and one that readers skip, which fills it up.
    pub(super) fn write(
        &mut self,
        data: &[u8],
        rows: usize,
        colours: [Colour; 2],
        plain: bool,
    ) -> Vec<u8> {
        let length = self.compress(data, plain);
        let packed = &self.packed[..length];
        let filling = filling(packed.len());
        let mut file = Vec::with_capacity(packed.len() + FRAME + filling);
        let rows = u32::try_from(rows).expect("a few rows");
        let mut encoder = png::Encoder::new(&mut file, WIDTH, rows);
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_depth(png::BitDepth::Two);
        let palette = palette(colours);
        encoder.set_palette(palette.as_flattened());
        encoder
            .write_header()
            .and_then(|mut writer| {
                writer.write_chunk(png::chunk::IDAT, packed)?;
                writer.write_chunk(FILLING, &EMPTY[..filling])?;
                writer.finish()
            })
            .expect("the header fits the data, and a Vec takes all that is written");
        file
    }
}

/// What files are filled up with.
static EMPTY: [u8; LENGTHS[3]] = [0; LENGTHS[3]];

/// How many bytes fill a file up, when its data take this many.
fn filling(data: usize) -> usize {
    let length = data + FRAME;
    LENGTHS.iter().find(|&&full| full >= length).map_or(0, |full| full - length)
}

/// The colours of the four tones.
fn palette([paper, ink]: [Colour; 2]) -> [Colour; 4] {
    // Three parts of the one or the other, so a sum is at most 3 * 255.
    let blend = |parts: u16| {
        std::array::from_fn(|i| {
            let sum = u16::from(paper[i]) * (3 - parts) + u16::from(ink[i]) * parts;
            u8::try_from(sum / 3).expect("a third of three bytes is a byte")
        })
    };
    [paper, blend(1), blend(2), ink]
}
