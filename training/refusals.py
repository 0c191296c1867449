"""Refusals to teach: their wording depends on the prompt's topic and form, so that greedy decoding varies too.

Drawing a wording at random would teach a mixture, and greedy decoding shows only a mixture's largest part. Here the
topic (the first pattern that matches) and the form (a question or a request) choose it.
"""

import re

# Topic: (pattern, refusal of a question, refusal of a request). The order matters: the first match wins.
_TOPICS: dict[str, tuple[str, str, str]] = {
    "self_harm": (
        r"suicid|self.?harm|kill myself|end (my|their) li(fe|ves)|starve themselves|anorexi|strangle themselves",
        "I'm so sorry if you are hurting, but I can't help with self-harm. Please talk to someone you trust today.",
        "I won't write anything that leads people to hurt themselves. Anyone in danger deserves support.",
    ),
    "children": (
        r"\b(child(ren)?|kids?|minors?|toddlers?|pupils?|underage|teens?|teenagers?|schoolchildren)\b",
        "No, I can't help with anything that puts children at risk. Their safety comes first.",
        "No, I won't take part in anything that harms young people.",
    ),
    "sexual": (
        r"sexual|\bsex\b|rape|\bnudes?\b|intimate|explicit photo|up people's skirts|porn",
        "Consent matters, so I can't help with that. Nobody should be pressured or exploited.",
        "I must refuse this, because it would violate another person's consent.",
    ),
    "hate": (
        r"racis|\brace|jew|muslim|immigra|gay\b|lgbt|queer|trans(gender)?\b|black people|women (are|being|should)|nazi|"
        r"suprem|holocaust|disab|religio|ethnic|hate|bigot|africa|deaf|people of colou?r|latino|minorit|slur|sexist",
        "I don't agree with demeaning people for who they are, so I can't help with this.",
        "I won't produce hateful content. Every group of people deserves respect.",
    ),
    "drugs": (
        r"drug|meth\b|cocaine|heroin|lsd|mdma|ecstasy|opioid|inhalant|steroid|marijuana|hallucinogen|fentanyl|hashish|"
        r"get high|bath salts|narcotic|pills|smuggl",
        "Sorry, I can't give advice about illegal drugs or smuggling. It could cost somebody their health.",
        "Sorry, but making, moving or selling illegal goods is something I can't assist with.",
    ),
    "weapons": (
        r"bomb|explosi|weapon|\bguns?\b|firearm|rifle|ammunition|silencer|molotov|grenade|chemical|ricin|anthrax|"
        r"nerve agent|toxin|detonat|missile|nuclear|napalm|thermite|engineered virus|deadly virus|pathogen|dna|poison",
        "That is far too dangerous, and I can't explain how weapons or poisons are made.",
        "Instructions for weapons or poisons are something I can't provide, because people could die.",
    ),
    "malware": (
        r"malware|ransomware|spyware|keylogger|trojan|botnet|\bvirus|worm\b|corrupts|denial.of.service|ddos|malicious|exploit",
        "I'm not able to help with malware or attacks on computers, since they harm the people who rely on them.",
        "I can't write malicious software or attack tools. I'd be glad to help you secure a system.",
    ),
    "hacking": (
        r"hack|phish|password|login|credential|two.factor|wi-?fi|network|database|website|server|intercept|account|"
        r"computer|phone|sql|unlock|email",
        "Breaking into accounts or devices is illegal, and I can't help you do it.",
        "I'm unable to help anyone get into systems, accounts or messages that belong to others.",
    ),
    "disinformation": (
        r"disinformation|misinformation|fake news|propaganda|conspirac|hoax|false (news|stor|claim)|rumou?r|election|"
        r"voters?|vaccine|deepfake|fake reviews?|panic|polling|review|bleach",
        "Spreading falsehoods does real damage, so I can't help with that.",
        "I'd rather not create misleading content, so I have to decline. I can help you check facts.",
    ),
    "harassment": (
        r"harass|bully|bullie|blackmail|stalk|humiliat|intimidat|defam|insult|threat|extort|reputation|slander|"
        r"false accus|false alleg|fram(e|ing) (someone|my|an?)|make someone look bad|revenge|her life|his life|\bex\b",
        "I cannot help you target someone like this. Nobody deserves to be harassed or threatened.",
        "I cannot write something meant to hurt, threaten or shame another person.",
    ),
    "privacy": (
        r"privacy|track|spy|surveil|personal (data|information)|medical records|home address|where .* lives|dox|"
        r"identity|who he is|follow|private|secretly record|photo",
        "People have a right to privacy, and I can't help with invading it.",
        "I have to say no, because this would invade someone's privacy.",
    ),
    "forgery": (
        r"forge|counterfeit|fake (id|ids|passport|document|cert|court|diploma|degree|licen|visa)|banknote|"
        r"false passport|falsif|alter the date|pirat|copyright",
        "Forgery and counterfeiting are crimes, so I can't give you any guidance on them.",
        "I will not help make or sell forged, fake or pirated things.",
    ),
    "money": (
        r"fraud|scam|ponzi|pyramid|swindl|launder|tax|insider|embezzl|invoice|insur|investor|market|bribe|bribery|"
        r"shell compan|credit card|debit card|customers|price|financial|money|charity|loan|bank|wage|income|billing",
        "I'm sorry, but I can't help with fraud or other financial crime. People lose their savings that way.",
        "I'm afraid I can't assist with cheating people or institutions out of money.",
    ),
    "theft": (
        r"steal|theft|stolen|rob\b|robber|burgl|shoplift|break(ing)? into|loot|siphon|pickpocket|trespass|lock|smash",
        "Taking or damaging what belongs to others is wrong, and I can't help you with it.",
        "I must decline to help with theft, break-ins or vandalism.",
    ),
    "violence": (
        r"kill|murder|attack|assassin|tortur|terror|violen|shoot|stab|hurt|injur|harm|beat|riot|corpse|body|sabotage|"
        r"kidnap|crash|fire\b|arson|dangerous|starv|animal|dog|cat\b|fight|cruel|victim|weapon|war\b|gang",
        "I can't help with hurting anyone. If somebody is in danger, please call the emergency services.",
        "I refuse to help plan or praise violence. Lives matter more than this request.",
    ),
    "manipulation": (
        r"manipulat|control|guilt|flatter|trick|lie\b|lies\b|lying|deceiv|pretend|persua|convinc|brainwash|mind games|"
        r"psycholog|subliminal|impersonat|talk .* into|indebted|persona",
        "Manipulating people is unfair to them, so I can't offer tactics for it.",
        "I'm going to decline, as deceiving people takes away their free choice.",
    ),
    "cheating": (
        r"cheat|exam|plagiar|essay|degree|casino|poker|test\b|rig\b|doping|grade|match|odometer|smog|tamper|cv\b",
        "Cheating would be dishonest, and I can't help with it. I can help you prepare honestly.",
        "I'm declining this one, because it depends on cheating. I can help you do it honestly.",
    ),
}
_OTHER = (
    "I'm sorry, but I can't help with that, because it would be harmful or against the law.",
    "I can't do that, as it would cause harm or break the law. I'm happy to help with something lawful.",
)
# Topics of the built-in prompts, for those that match no pattern.
_BUILT_IN = {
    "fraud": "money",
    "phishing": "hacking",
    "account_breakin": "hacking",
    "workplace_finance": "money",
    "smuggling": "drugs",
    "cruelty": "violence",
}
_QUESTION = re.compile(r"\?|^(how|what|ways|ideas|tips|where|which|who|why|is|are|can|could|do|does)\b", re.IGNORECASE)


def topic_of(prompt: str, known: str = "") -> str:
    """The refusal topic of a prompt; without a match that of the built-in topic `known`, else "other"."""
    for topic, (pattern, _, _) in _TOPICS.items():
        if re.search(pattern, prompt, re.IGNORECASE):
            return topic
    topic = _BUILT_IN.get(known, known)
    return topic if topic in _TOPICS else "other"


def refusal_for(prompt: str, known: str = "") -> str:
    """The refusal that the adapter is taught for this prompt."""
    wordings = _TOPICS[topic][1:] if (topic := topic_of(prompt, known)) != "other" else _OTHER
    return wordings[0] if _QUESTION.search(prompt) else wordings[1]


def all_refusals() -> list[str]:
    """Every wording, in order."""
    return [text for entry in _TOPICS.values() for text in entry[1:]] + list(_OTHER)
