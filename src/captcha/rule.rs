//! What a picture asks for: how it is read, how hard it is, and the sentence that says so.

/// How a picture is read. The same letters mean another answer under another rule, so what
/// somebody taught a program about one rule is worth nothing on the day of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// From the ring, along its line, to the end.
    FromRing,
    /// Along the line towards the ring, from its other end.
    ToRing,
    /// From the square; the ring begins the other line, which is left alone.
    FromSquare,
    /// From the ring; the first letter does not count.
    SkipFirst,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::FromRing, Self::ToRing, Self::FromSquare, Self::SkipFirst];

    /// Its name in answers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FromRing => "from-ring",
            Self::ToRing => "to-ring",
            Self::FromSquare => "from-square",
            Self::SkipFirst => "skip-first",
        }
    }

    /// The sentence that says what to do.
    pub fn instruction(self, language: Language) -> &'static str {
        match (self, language) {
            (Self::FromRing, Language::Chinese) => "从圆圈开始,按线经过的先后输入 4 个字符。",
            (Self::ToRing, Language::Chinese) => {
                "从线的另一端走向圆圈,按线经过的先后输入 4 个字符。"
            }
            (Self::FromSquare, Language::Chinese) => {
                "从方块开始(不是圆圈),按线经过的先后输入 4 个字符。"
            }
            (Self::SkipFirst, Language::Chinese) => {
                "从圆圈开始,第一个字符不算,按线经过的先后输入它后面的 4 个字符。"
            }
            (Self::FromRing, Language::English) => {
                "Start at the ring. Type the 4 characters in the order in which its line meets \
                 them."
            }
            (Self::ToRing, Language::English) => {
                "Follow the line towards the ring, from its other end. Type the 4 characters in \
                 the order in which it meets them."
            }
            (Self::FromSquare, Language::English) => {
                "Start at the square, not at the ring. Type the 4 characters in the order in which \
                 its line meets them."
            }
            (Self::SkipFirst, Language::English) => {
                "Start at the ring. The first character does not count: type the 4 after it, in \
                 the order in which the line meets them."
            }
        }
    }

    /// The same, short enough for a line below the picture.
    pub(super) fn caption(self, language: Language) -> &'static str {
        match (self, language) {
            (Self::FromRing, Language::Chinese) => "从圆圈起，沿线依次输入4个字",
            (Self::ToRing, Language::Chinese) => "沿线走到圆圈，依次输入4个字",
            (Self::FromSquare, Language::Chinese) => "从方块起，沿线依次输入4个字",
            (Self::SkipFirst, Language::Chinese) => "从圆圈起，跳过第一个，输入后4个",
            (Self::FromRing, Language::English) => "Follow the line from the ring. Type all 4.",
            (Self::ToRing, Language::English) => "Follow the line TO the ring. Type all 4.",
            (Self::FromSquare, Language::English) => "Follow the line from the square. Type all 4.",
            (Self::SkipFirst, Language::English) => "From the ring, skip one, type the next 4.",
        }
    }
}

/// How hard a picture is, for programs first and for people a little.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// Plain paper.
    Plain,
    /// Large patches in which paper and ink change places.
    Patches,
    /// Patches, and one letter more.
    More,
}

impl Level {
    /// All of them, the easiest first.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Patches, Self::More];

    /// 1 to 3, as the documents count them.
    pub fn number(self) -> u8 {
        match self {
            Self::Plain => 1,
            Self::Patches => 2,
            Self::More => 3,
        }
    }

    /// How many letters stand in the picture.
    pub(super) fn letters(self) -> usize {
        if self == Self::More { 8 } else { 7 }
    }

    /// How large letters are: the more there are, the less room each has.
    pub(super) fn scale(self) -> f32 {
        if self == Self::More { 0.88 } else { 1.0 }
    }
}

/// The languages of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// 中文.
    Chinese,
    /// English.
    English,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Chinese, Self::English];
}
