"""Which language a text in Latin letters is in, by its function words: enough to see an answer in the wrong one.

It says nothing unless it is sure: a few dozen letters cannot tell Danish from Norwegian, so near relatives count as
one, and a text with few function words has no language.
"""

import re
from typing import Final

_WORDS: Final = {
    "en": "the of and to in is that it for you are was with as this be have not on they from or an by what how do "
    "can your which their there if i my me would about when why does at will a an he she we us explain write give tell "
    "list describe make name some more "
    "no so only very its our one all into then than out up his her has had",
    "de": "der die das und ist nicht ein eine einen zu den mit von auf für sich dem des im auch es ich sie wie man "
    "werden wird kann aus bei nach oder dann damit was warum wo mir dir sein sind am "
    "hat haben wurde mehr nur so noch durch unter über gut viel kein keine sich vor bis",
    "fr": "le la les et des est un une du que dans pour qui pas sur au aux avec ce il je ne se son par plus comment "
    "pourquoi est-ce quel quelle vous nous mon en puis où sont cette "
    "est de ont leurs leur elle ils elles tout tous bien même comme c'est",
    "es/pt": "el la los las y que en un una del por con para es se lo como su al más pero qué cómo mi no está son o a "
    "os as do da dos das em um uma não com é ao mas como por para seu sua faço são pelo hago este muy "
    "de y fue más entre sobre después luego hasta pelo pela foi mais isso",
    "it": "il lo la gli le di che è un una del della per con non si sono come nel nella i dei più da al alla e poi ha "
    "questo perché mi fa cosa "
    "sua suo loro fino molto bene anche hanno dal nel sulla agli dei delle",
    "nl": "de het een en van is niet dat op te in voor met zijn aan er om je ik maar als dan wat hoe waarom bij uit "
    "ook naar mijn deze door wordt "
    "nog wel goed worden daarna heb hebt kan",
    "sv/no/da": "och att det som en är på för med av den till inte jag har om ett var hur vad og at er på til ikke "
    "jeg det som en et af av med den hvordan hvad hva från fra kan ska skal man sig seg",
    "pl": "i w na z się nie to jest że do jak o po co dla czy przez od za ale być są mój moją oraz jego który która",
    "cs/sk": "a se v na je že to s z do o jak pro si ale by co jsou není nebo být po k za jako který která sa ako čo",
    "fi": "ja on ei se että en ole oli hän mutta kun niin tai kuin miten mitä voi ovat myös sen tämä minä",
    "hu": "a az és hogy nem egy is van meg ez de mint vagy ha hogyan miért csak el mi ki lehet kell",
    "ro": "și în de la cu nu este pe că un o din care mai pentru sunt cum ce se sau ca prin fi am îmi",
    "tr": "ve bir bu için ile da de ne nasıl çok daha ama olarak gibi kadar sonra mi mı var olan değil her en",
    "vi": "và là của có không được cho một trong với các này để người những đã như khi làm thế nào bạn rồi từ nước",
    "id/ms": "yang dan di untuk dengan ini itu dari tidak pada adalah ke dalam akan bagaimana saya anda atau juga cara",
}
_ENGLISH: Final = frozenset(_WORDS["en"].split())
# Single letters are also keys and variables, and homographs of English words ("is", "die", "on") count for English
# alone, the language that is always allowed.
_TONGUES: Final = {
    name: _ENGLISH if name == "en" else frozenset(w for w in words.split() if len(w) > 1) - _ENGLISH
    for name, words in _WORDS.items()
}
_WORD: Final = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")

_SURE_WORDS = 3  # different function words that must be found
_SURE_SHARE = 0.22  # and their share of all words; running prose has 0.3 to 0.5
_SURE_LEAD = 1.5  # times as many as of any other language


def tongue_of(text: str) -> str:
    """The language of a text in Latin letters (`en`, `de`, `es/pt`, ...), or empty when it is not clear."""
    words = _WORD.findall(text.lower())[:200]
    words = [part for word in words for part in ([word] if "'" not in word else word.split("'"))]
    if not words:
        return ""
    counts = {name: sum(word in known for word in words) for name, known in _TONGUES.items()}
    first, second = sorted(counts, key=lambda name: -counts[name])[:2]
    different = len(_TONGUES[first] & set(words))
    if different < _SURE_WORDS or counts[first] < _SURE_SHARE * len(words):
        return ""
    return first if counts[first] >= _SURE_LEAD * counts[second] else ""


def asked_in(prompt: str) -> str:
    """The language of a prompt, which is short, so that the best match of two words is enough; or empty."""
    words = _WORD.findall(prompt.lower())[:200]
    counts = {name: sum(word in known.split() for word in words) for name, known in _WORDS.items()}
    first, second = sorted(counts, key=lambda name: -counts[name])[:2]
    return first if counts[first] >= 2 and counts[first] > counts[second] else ""
