//! Numerics, written as they are stored: a header, and digits to base 10 000.
//!
//! The format (numeric.c of Postgres) has not changed since 9.1.

use std::fmt::Write;

const SHORT: u16 = 0x8000;
const SHORT_NEGATIVE: u16 = 0x2000;
const NEGATIVE: u16 = 0x4000;

/// Appends a finite number as JSON text would read: with the fewest digits that tell it from others, and one decimal at least
/// below 10¹⁶. `text` is room to work in.
pub fn write(buffer: &mut Vec<u8>, number: f64, text: &mut String) {
    text.clear();
    // Writing to a string cannot fail.
    let _ = write!(text, "{:e}", number.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits = || mantissa.bytes().filter(u8::is_ascii_digit).map(|digit| u16::from(digit - b'0'));
    let count = digits().count() as i32;
    let decimals = match count - 1 - exponent {
        ..=0 if number.abs() < 1e16 => 1,
        decimals => decimals.max(0),
    };
    let (negative, weight) = match number == 0.0 {
        true => (false, 0),
        false => (number < 0.0, exponent.div_euclid(4)),
    };

    let start = buffer.len();
    buffer.extend_from_slice(&[0; 4]);
    if decimals <= 0x3f && (-0x40..=0x3f).contains(&weight) {
        let sign = if negative { SHORT_NEGATIVE } else { 0 };
        // Seven bits of the weight in two's complement.
        let header = SHORT | sign | (decimals as u16) << 7 | (weight as u16 & 0x7f);
        buffer.extend_from_slice(&header.to_ne_bytes());
    } else {
        let sign = if negative { NEGATIVE } else { 0 };
        buffer.extend_from_slice(&(sign | decimals as u16).to_ne_bytes());
        buffer.extend_from_slice(&(weight as i16).to_ne_bytes());
    }
    let digits_from = buffer.len();
    // The first digit to base 10 000 has as many decimal digits as stand before a multiple of four.
    let (mut group, mut missing) = (0, exponent.rem_euclid(4) + 1);
    for digit in digits() {
        group = group * 10 + digit;
        missing -= 1;
        if missing == 0 {
            buffer.extend_from_slice(&group.to_ne_bytes());
            (group, missing) = (0, 4);
        }
    }
    if missing < 4 {
        group *= 10_u16.pow(missing as u32);
        buffer.extend_from_slice(&group.to_ne_bytes());
    }
    while buffer.len() > digits_from && buffer.ends_with(&[0, 0]) {
        buffer.truncate(buffer.len() - 2);
    }
    let length = (buffer.len() - start) as u32;
    let length = if cfg!(target_endian = "little") { length << 2 } else { length };
    buffer[start..][..4].copy_from_slice(&length.to_ne_bytes());
}
