// QR codes (ISO/IEC 18004): bytes, versions 1 to 10, correction of 15 %. Enough for an address of 213 bytes.

/** Of each version: bytes of correction in a block, blocks, and data bytes in the shorter of them. @type {number[][]} */
const VERSIONS = [
  [10, 1, 16], [16, 1, 28], [26, 1, 44], [18, 2, 32], [24, 2, 43], [16, 4, 27], [18, 4, 31], [22, 4, 38], [22, 5, 36], [26, 5, 43],
];
/** How many of a version's blocks have one data byte more. */
const LONGER = [0, 0, 0, 0, 0, 0, 0, 2, 2, 1];
/** Where the alignment patterns of a version are. @type {number[][]} */
const ALIGNED = [
  [], [6, 18], [6, 22], [6, 26], [6, 30], [6, 34], [6, 22, 38], [6, 24, 42], [6, 26, 46], [6, 28, 50],
];
/** Whether a mask inverts a module. @type {((row: number, column: number) => boolean)[]} */
const MASKS = [
  (r, c) => (r + c) % 2 === 0,
  (r) => r % 2 === 0,
  (_, c) => c % 3 === 0,
  (r, c) => (r + c) % 3 === 0,
  (r, c) => ((r >> 1) + Math.floor(c / 3)) % 2 === 0,
  (r, c) => ((r * c) % 2) + ((r * c) % 3) === 0,
  (r, c) => (((r * c) % 2) + ((r * c) % 3)) % 2 === 0,
  (r, c) => (((r + c) % 2) + ((r * c) % 3)) % 2 === 0,
];
const QUIET = 4;

/** @typedef {boolean[][]} Matrix rows of modules, true where dark */

/**
 * Return the code of a text; null where it is too long.
 * @param {string} text
 * @returns {?Matrix}
 */
export function encode(text) {
  const bytes = [...new TextEncoder().encode(text)];
  const index = VERSIONS.findIndex((_, each) => bytes.length + (each < 9 ? 2 : 3) <= capacityOf(each));
  if (index < 0) return null;
  const codewords = interleave(index, codewordsOf(bytes, index));
  /** @type {?{matrix: Matrix, penalty: number}} */
  let best = null;
  for (let mask = 0; mask < MASKS.length; mask += 1) {
    const matrix = draw(index, codewords, mask);
    const penalty = penaltyOf(matrix);
    if (best === null || penalty < best.penalty) best = { matrix, penalty };
  }
  return best && best.matrix;
}

/**
 * Return a code as the path of an SVG, and the width of its view box with the quiet zone.
 * @param {Matrix} matrix
 */
export function toPath(matrix) {
  const cells = matrix.flatMap((row, y) => row.map((dark, x) => (dark ? `M${x + QUIET} ${y + QUIET}h1v1h-1z` : "")));
  return { path: cells.join(""), width: matrix.length + 2 * QUIET };
}

/** @param {number} index of a version */
function capacityOf(index) {
  const [, blocks, length] = VERSIONS[index];
  return blocks * length + LONGER[index];
}

/**
 * Return the data with its header, filled up.
 * @param {number[]} bytes
 * @param {number} index
 */
function codewordsOf(bytes, index) {
  // 4 bits for the mode, 8 or 16 for the length: everything is shifted by half a byte
  const counted = index < 9 ? [bytes.length] : [bytes.length >> 8, bytes.length & 255];
  const shifted = [0x4, ...[...counted, ...bytes].flatMap((each) => [each >> 4, each & 15]), 0];
  const words = [];
  for (let at = 0; at < shifted.length; at += 2) words.push((shifted[at] << 4) | shifted[at + 1]);
  for (let filler = 0xec; words.length < capacityOf(index); filler ^= 0xfd) words.push(filler);
  return words;
}

/**
 * Return data and correction in the order in which they are drawn.
 * @param {number} index
 * @param {number[]} words
 */
function interleave(index, words) {
  const [correction, count, length] = VERSIONS[index];
  const divisor = divisorOf(correction);
  const blocks = [];
  let at = 0;
  for (let each = 0; each < count; each += 1) {
    const size = length + (each >= count - LONGER[index] ? 1 : 0);
    blocks.push(words.slice(at, at + size));
    at += size;
  }
  const checks = blocks.map((block) => remainderOf(block, divisor));
  const column = (/** @type {number[][]} */ rows, /** @type {number} */ width) => (
    Array.from({ length: width }, (_, each) => rows.map((row) => row[each])).flat().filter((word) => word !== undefined)
  );
  return [...column(blocks, length + 1), ...column(checks, correction)];
}

/**
 * Return the product of two elements of GF(256) modulo x^8 + x^4 + x^3 + x^2 + 1.
 * @param {number} one
 * @param {number} other
 */
function multiply(one, other) {
  let product = 0;
  for (let bit = 7; bit >= 0; bit -= 1) {
    product = (product << 1) ^ ((product >> 7) * 0x11d);
    product ^= ((other >> bit) & 1) * one;
  }
  return product;
}

/**
 * Return the generator polynomial of Reed and Solomon's code, without its leading 1.
 * @param {number} degree
 */
function divisorOf(degree) {
  const divisor = [...Array(degree - 1).fill(0), 1];
  for (let each = 0, root = 1; each < degree; each += 1, root = multiply(root, 2)) {
    for (let at = 0; at < degree; at += 1) divisor[at] = multiply(divisor[at], root) ^ (divisor[at + 1] ?? 0);
  }
  return divisor;
}

/**
 * @param {number[]} block
 * @param {number[]} divisor
 */
function remainderOf(block, divisor) {
  const remainder = divisor.map(() => 0);
  for (const word of block) {
    const factor = word ^ /** @type {number} */ (remainder.shift());
    remainder.push(0);
    divisor.forEach((each, at) => { remainder[at] ^= multiply(each, factor); });
  }
  return remainder;
}

/**
 * Draw a code with a mask.
 * @param {number} index
 * @param {number[]} codewords
 * @param {number} mask
 * @returns {Matrix}
 */
function draw(index, codewords, mask) {
  const size = 21 + 4 * index;
  /** @type {(boolean | undefined)[][]} what has a fixed meaning is set first */
  const matrix = Array.from({ length: size }, () => Array(size).fill(undefined));
  drawPatterns(matrix, index);
  drawFormat(matrix, mask);
  if (index >= 6) drawVersion(matrix, index + 1);
  let bit = 0;
  for (let right = size - 1; right > 0; right -= 2) {
    if (right === 6) right = 5;
    const upward = ((right + 1) & 2) === 0;
    for (let step = 0; step < size; step += 1) {
      const row = upward ? size - 1 - step : step;
      for (const column of [right, right - 1]) {
        if (matrix[row][column] !== undefined) continue;
        const word = codewords[bit >> 3] ?? 0;
        matrix[row][column] = Boolean((word >> (7 - (bit & 7))) & 1) !== MASKS[mask](row, column);
        bit += 1;
      }
    }
  }
  return /** @type {Matrix} */ (matrix);
}

/**
 * @param {(boolean | undefined)[][]} matrix
 * @param {number} index
 */
function drawPatterns(matrix, index) {
  const size = matrix.length;
  for (let each = 0; each < size; each += 1) {
    matrix[6][each] = each % 2 === 0;
    matrix[each][6] = each % 2 === 0;
  }
  for (const [y, x] of [[3, 3], [3, size - 4], [size - 4, 3]]) drawRings(matrix, y, x, 4, [2, 4]);
  const last = size - 7;
  for (const y of ALIGNED[index]) {
    for (const x of ALIGNED[index]) {
      const corner = (y === 6 && x === 6) || (y === 6 && x === last) || (y === last && x === 6);
      if (!corner) drawRings(matrix, y, x, 2, [1]);
    }
  }
}

/**
 * @param {(boolean | undefined)[][]} matrix
 * @param {number} y
 * @param {number} x
 * @param {number} radius
 * @param {number[]} light the rings that are not dark
 */
function drawRings(matrix, y, x, radius, light) {
  for (let dy = -radius; dy <= radius; dy += 1) {
    for (let dx = -radius; dx <= radius; dx += 1) {
      const inside = matrix[y + dy] !== undefined && x + dx >= 0 && x + dx < matrix.length;
      if (inside) matrix[y + dy][x + dx] = !light.includes(Math.max(Math.abs(dx), Math.abs(dy)));
    }
  }
}

/**
 * Draw correction level and mask, twice.
 * @param {(boolean | undefined)[][]} matrix
 * @param {number} mask
 */
function drawFormat(matrix, mask) {
  const size = matrix.length;
  const bits = (withCheck(mask, 10, 0x537)) ^ 0x5412;
  for (let each = 0; each < 15; each += 1) {
    const dark = Boolean((bits >> each) & 1);
    const row = each < 6 ? each : each < 8 ? each + 1 : size - 15 + each;
    const column = each < 8 ? size - 1 - each : each < 9 ? 7 : 14 - each;
    matrix[row][8] = dark;
    matrix[8][column] = dark;
  }
  matrix[size - 8][8] = true;
}

/**
 * @param {(boolean | undefined)[][]} matrix
 * @param {number} version
 */
function drawVersion(matrix, version) {
  const bits = withCheck(version, 12, 0x1f25);
  for (let each = 0; each < 18; each += 1) {
    const [far, near] = [matrix.length - 11 + (each % 3), Math.floor(each / 3)];
    matrix[far][near] = Boolean((bits >> each) & 1);
    matrix[near][far] = Boolean((bits >> each) & 1);
  }
}

/**
 * Return a value followed by its check bits (BCH).
 * @param {number} value
 * @param {number} count
 * @param {number} polynomial
 */
function withCheck(value, count, polynomial) {
  let rest = value;
  for (let each = 0; each < count; each += 1) rest = (rest << 1) ^ ((rest >> (count - 1)) * polynomial);
  return (value << count) | rest;
}

/**
 * Return how hard a code is to read: long runs, blocks, what looks like a finder pattern, and uneven darkness.
 * @param {Matrix} matrix
 */
function penaltyOf(matrix) {
  const size = matrix.length;
  const lines = [...matrix, ...matrix.map((_, column) => matrix.map((row) => row[column]))];
  let penalty = 0;
  for (const line of lines) {
    const text = line.map(Number).join("");
    for (const run of text.match(/0{5,}|1{5,}/g) ?? []) penalty += run.length - 2;
    for (const pattern of ["10111010000", "00001011101"]) {
      for (let at = text.indexOf(pattern); at >= 0; at = text.indexOf(pattern, at + 1)) penalty += 40;
    }
  }
  for (let row = 1; row < size; row += 1) {
    for (let column = 1; column < size; column += 1) {
      const dark = matrix[row][column];
      if (matrix[row - 1][column] === dark && matrix[row][column - 1] === dark && matrix[row - 1][column - 1] === dark) penalty += 3;
    }
  }
  const share = matrix.flat().filter(Boolean).length / (size * size);
  return penalty + 10 * Math.floor(Math.abs(share - 0.5) * 20);
}
