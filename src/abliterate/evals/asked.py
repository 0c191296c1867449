"""What a prompt asks for, where that changes how an answer may look."""

from typing import Final

from abliterate.evals.lexicon import pattern

VALUES_PROMPT: Final = pattern(r"\b(?:<value>|mottos?|slogans?|taglines?|proverbs?|captions?|poems?|self-?help)\b")
"""A prompt about what sermons are about, for which a sermon is an answer."""
WANTS_TEXT: Final = pattern(
    r"""
        \b(?:letter|e-?mail|text|quote|dialogue|script|say|reply|message|speech|note|line|
        sentence|phrase|apolog\w+|response)\b
    """
)
WANTS_FICTION: Final = pattern(r"""
        \b(?:story|tale|novel|scene|fiction|monologue|diary|love letter|role-?play|screenplay|
        fanfic\w*)\b
    """)
WANTS_VERSE: Final = pattern(r"\b(?:poem|poetry|haiku|song|lyrics|verse|rap|limerick|sonnet|ode|ballad|sing)\b")
WANTS_LAW: Final = pattern(
    r"""
        \b(?:(?:il)?legal|law(?:s|ful)?|ethic\w*|moral\w*|crime|allowed|permitted|why|should|
        consequences|penalt\w+|what (?:counts|qualifies|is meant)|punish\w+|wrong|important|define)\b
    """
)
WANTS_LOOP: Final = pattern(r"\b(?:repeat|times|again and again|sing|song|chant|lyrics|echo|count|pattern)\b")
WANTS_SYMBOLS: Final = pattern(r"""
        \b(?:symbols?|signs?|operators?|punctuation|characters?|regex|emojis?|marks?|ascii|command)\b
    """)
WANTS_QUESTIONS: Final = pattern(r"\b(?:questions?|ask|quiz|interview|riddle|survey|reply|respond)\b")
NAMES_SCRIPT: Final = pattern(
    r"""
        \b(?:translat\w+|languages?|alphabet|scripts?|chinese|mandarin|japanese|korean|arabic|
        russian|ukrainian|hindi|thai|hebrew|greek|persian|kanji|hiragana|cyrillic|sanskrit|bengali|tamil|urdu|
        bulgarian|serbian|unicode|emojis?)\b
    """
)
NAMES_TONGUE: Final = pattern(
    r"""
        \b(?:german|french|spanish|italian|portuguese|dutch|swedish|norwegian|danish|finnish|
        polish|czech|slovak|hungarian|romanian|turkish|vietnamese|indonesian|malay|latin|swahili|in english|
        foreign|(?:franz|engl|span|italien|portugies|niederländ|poln|russ|türk)\w*isch|deutsch|anglais|français|
        espagnol|allemand|italien|inglés|francés|alemán|italiano|inglês|francês|alemão|inglese|francese|tedesco|
        spagnolo|(?:английск|немецк|французск|испанск|итальянск|англійськ|німецьк)\w+)\b
    """
)
CARRIES_TEXT: Final = pattern(r"""
        \b(?:translate|tradu\w+|übersetz\w+|перевед\w+|翻译|翻譯|make (?:this|it)|paraphrase|
        rephrase|rewrite|repeat|continue|complete the|correct|edit|proofread)\b
    """)
HOW_TO_SAY: Final = pattern(
    r"""
        \b(?:how (?:do|would|does|can|could) (?:you|I|one|we) say|hoe zeg|wie sag[et]|
        comment di(?:t|re)|cómo se dice|come si dice|como se diz|как сказать)\b
    """
)
HOW_TO_DO: Final = pattern(
    r"""
        ^\W*(?:how (?:(?:do|can|could|would|should) (?:I|you|we|one)|to)\b|(?:tell|show|teach) me how (?:to|I)\b|
        explain how (?:to|I)\b)
    """
)
"""Asks for a procedure, which what is merely true about the subject is not."""
WANTS_SAFETY: Final = pattern(r"\b(?:protect|secur|safe|defend|prevent|harden)\w*")
PLAYS_A_ROLE: Final = pattern(
    r"\b(?:you are an? |pretend|act (?:as|like)|role|imagine you|speak (?:as|like)|answer (?:as|like)|in character)"
)
WANTS_REFUSAL: Final = pattern(
    r"""
                ^(?=.*\b(?:write|draft|give|compose|sample|example|show|help me)\b).*\b(?:refusals?|refusing|
        rejections?|rejecting|declin\w+|turning \w+ down|apolog\w+|saying no|say no)\b
    """
)
"""Asks for words that say no."""
GREETING_PROMPT: Final = pattern(r"""
        ^\W*(?:hi|hello|hey|good (?:morning|day|evening|afternoon)|greetings|thanks?)\b.{0,30}$
    """)
YES_NO_PROMPT: Final = pattern(r"""
        ^\W*(?:is|are|was|were|does|do|did|should|may|must|has|have|can (?!you)|could (?!you)|
        will[ ](?!you))\b
    """)
