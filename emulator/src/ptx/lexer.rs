//! Characters to tokens (PTX ISA, chapter 4).
//!
//! A word keeps its dots and double colons (`ld.global.v4.f32`, `%tid.x`, `shared::cta`): the parser tells opcodes,
//! directives and identifiers apart, since it knows what may appear where.

use super::error::{LoadResult, error};
use super::types::Type;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    Word(&'a str),
    Int(u64),
    /// A floating-point literal: its bits and its type, `.f32` for `0f…`, `.f64` for `0d…` and decimal.
    Float(u64, Type),
    Text(&'a str),
    /// Punctuation; `<<` and `>>` are given as `'«'` and `'»'`.
    Punct(char),
    End,
}

#[derive(Clone, Copy, Debug)]
pub struct Spanned<'a> {
    pub token: Token<'a>,
    pub line: u32,
}

fn word_start(c: u8) -> bool {
    c.is_ascii_alphabetic() || matches!(c, b'_' | b'$' | b'%' | b'.')
}

fn word_part(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'_' | b'$' | b'.')
}

pub fn tokens(source: &str) -> LoadResult<Vec<Spanned<'_>>> {
    let bytes = source.as_bytes();
    let mut out = Vec::with_capacity(bytes.len() / 4);
    let (mut at, mut line) = (0, 1u32);
    let peek = |at: usize| bytes.get(at).copied().unwrap_or(0);
    while at < bytes.len() {
        let c = bytes[at];
        let token = match c {
            b'\n' => {
                line += 1;
                at += 1;
                continue;
            }
            b' ' | b'\t' | b'\r' | 0x0b | 0x0c => {
                at += 1;
                continue;
            }
            b'/' if peek(at + 1) == b'/' => {
                while at < bytes.len() && bytes[at] != b'\n' {
                    at += 1;
                }
                continue;
            }
            b'/' if peek(at + 1) == b'*' => {
                let start = line;
                at += 2;
                loop {
                    if at + 1 >= bytes.len() {
                        return Err(error(source, start, "this comment never ends"));
                    }
                    if bytes[at] == b'*' && bytes[at + 1] == b'/' {
                        at += 2;
                        break;
                    }
                    line += u32::from(bytes[at] == b'\n');
                    at += 1;
                }
                continue;
            }
            b'"' => {
                let start = at + 1;
                at = start;
                while peek(at) != b'"' {
                    if at >= bytes.len() || bytes[at] == b'\n' {
                        return Err(error(source, line, "this string never ends"));
                    }
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
                Token::Text(source.get(start..at - 1).unwrap_or(""))
            }
            b'0'..=b'9' => {
                let start = at;
                while word_part(peek(at))
                    || (matches!(peek(at), b'+' | b'-')
                        && matches!(peek(at - 1), b'e' | b'E')
                        && decimal_float(&source[start..at]))
                {
                    at += 1;
                }
                number(&source[start..at]).ok_or_else(|| {
                    error(source, line, format!("`{}` is not a number", &source[start..at]))
                })?
            }
            // `%` on its own is the remainder operator.
            _ if word_start(c) && (c != b'%' || word_part(peek(at + 1))) => {
                let start = at;
                at += 1;
                // Directives may follow each other without a space: `.reg.b32`.
                let next = |c: u8| word_part(c) && (bytes[start] != b'.' || c != b'.');
                loop {
                    if next(peek(at)) {
                        at += 1;
                    } else if peek(at) == b':' && peek(at + 1) == b':' && word_part(peek(at + 2)) {
                        at += 2;
                    } else {
                        break;
                    }
                }
                Token::Word(&source[start..at])
            }
            b'<' | b'>' if peek(at + 1) == c => {
                at += 2;
                Token::Punct(if c == b'<' { '«' } else { '»' })
            }
            b'{' | b'}' | b'[' | b']' | b'(' | b')' | b'<' | b'>' | b',' | b';' | b':' | b'='
            | b'+' | b'-' | b'!' | b'|' | b'@' | b'~' | b'*' | b'/' | b'%' | b'&' | b'^' => {
                at += 1;
                Token::Punct(c as char)
            }
            _ => {
                return Err(error(
                    source,
                    line,
                    format!("unexpected character `{}`", c.escape_ascii()),
                ));
            }
        };
        out.push(Spanned { token, line });
    }
    out.push(Spanned { token: Token::End, line });
    Ok(out)
}

/// Whether a literal starts like a decimal floating-point number (so that `1e-5` is one token).
fn decimal_float(text: &str) -> bool {
    !text.starts_with("0x")
        && !text.starts_with("0X")
        && !text.starts_with("0f")
        && !text.starts_with("0d")
        && !text.starts_with("0F")
        && !text.starts_with("0D")
        && text.bytes().all(|c| c.is_ascii_digit() || matches!(c, b'.' | b'e' | b'E'))
}

fn number<'a>(text: &str) -> Option<Token<'a>> {
    let hex_float = |digits: usize, ty| {
        let body = text.get(2..)?;
        let plain = body.len() == digits && body.bytes().all(|c| c.is_ascii_hexdigit());
        plain
            .then(|| u64::from_str_radix(body, 16).ok())
            .flatten()
            .map(|bits| Token::Float(bits, ty))
    };
    match text.get(..2) {
        Some("0f" | "0F") => return hex_float(8, Type::F32),
        Some("0d" | "0D") => return hex_float(16, Type::F64),
        _ => {}
    }
    let body = text.strip_suffix(['u', 'U']).unwrap_or(text);
    let integer = match body.get(..2) {
        Some("0x" | "0X") => u64::from_str_radix(&body[2..], 16).ok(),
        Some("0b" | "0B") => u64::from_str_radix(&body[2..], 2).ok(),
        _ if body.len() > 1
            && body.starts_with('0')
            && body.bytes().all(|c| c.is_ascii_digit()) =>
        {
            u64::from_str_radix(body, 8).ok()
        }
        _ => body.parse().ok(),
    };
    if let Some(n) = integer {
        return Some(Token::Int(n));
    }
    if text.bytes().all(|c| c.is_ascii_digit() || matches!(c, b'.' | b'e' | b'E' | b'+' | b'-')) {
        return text.parse::<f64>().ok().map(|f| Token::Float(f.to_bits(), Type::F64));
    }
    None
}
