//! Letters that a program made of others, as it took a text for one in another encoding.

/// Mac Roman's letters from 0x80 on.
const MAC_ROMAN: &str = "ÄÅÇÉÑÖÜáàâäãåçéèêëíìîïñóòôöõúùûü†°¢£§•¶ß®©™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø\
                         ¿¡¬√ƒ≈∆«»…\u{a0}ÀÃÕŒœ–—“”‘’÷◊ÿŸ⁄€‹›ﬁﬂ‡·‚„‰ÂÊÁËÈÍÎÏÌÓÔ\u{f8ff}ÒÚÛÙıˆ˜¯˘˙˚¸˝˛ˇ";

/// The letters of code page 1252 from 0x80 to 0x9F; the bytes that have none keep their own number, as Windows reads them.
const WINDOWS: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// What a text was in UTF-8 before a spreadsheet program opened it in its own code page, Windows' 1252 or the Mac's, and saved what it
/// saw; nothing where it cannot have been that.
pub fn read_as_utf8(text: &str) -> impl Iterator<Item = String> {
    let pages: [fn(char) -> Option<u8>; 2] = [byte_of_windows, byte_of_mac];
    let broken = !text.is_ascii();
    pages.into_iter().filter(move |_| broken).filter_map(move |byte_of| {
        let bytes: Option<Vec<u8>> = text.chars().map(byte_of).collect();
        String::from_utf8(bytes?).ok()
    })
}

fn byte_of_windows(letter: char) -> Option<u8> {
    let of_page = (0x80..).zip(WINDOWS).find(|(_, known)| *known == letter).map(|(byte, _)| byte);
    of_page.or_else(|| u8::try_from(u32::from(letter)).ok())
}

fn byte_of_mac(letter: char) -> Option<u8> {
    let of_page = (0x80..=0xff).zip(MAC_ROMAN.chars()).find(|(_, known)| *known == letter).map(|(byte, _)| byte);
    of_page.or_else(|| u8::try_from(letter).ok().filter(u8::is_ascii))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_saw_is_what_was_written() {
        assert_eq!(MAC_ROMAN.chars().count(), 128);
        let read = |text: &str| read_as_utf8(text).collect::<Vec<_>>();
        assert_eq!(read("Ãœbung à la carte".replace('à', "Ã\u{a0}").as_str()), ["Übung à la carte"]);
        assert_eq!(read("√úbung"), ["Übung"]);
        assert_eq!(read("UÃàbung"), ["U\u{308}bung"], "as a Mac names files");
        assert_eq!(read("Übung"), Vec::<String>::new());
        assert_eq!(read("image 1"), Vec::<String>::new());
    }
}
