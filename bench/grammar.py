"""How well a closed grammar tells its own phrases and refuses other speech: MANIFEST CORPUS [EVERY] [MODEL].

The grammar has every text of the corpus as a phrase. Its recordings should give their own phrase, and those
of the manifest's other corpora nothing (every EVERYth, those that say a phrase left out). Prints JSON.
"""

import json
import sys

from asr.audio import read_audio
from asr.decoding.decoder import DecoderOptions
from asr.manifest import Utterance, read_manifest
from asr.recognizer import Recognizer
from asr.text import normalize


def main() -> None:
    manifest, corpus, *rest = sys.argv[1:]
    every = int(rest[0]) if rest else 1
    utterances = read_manifest(manifest)
    inside = [utterance for utterance in utterances if utterance.corpus == corpus]
    phrases = {normalize(utterance.text) for utterance in inside}
    others = [utterance for utterance in utterances if utterance.corpus != corpus]
    outside = [utterance for utterance in others if normalize(utterance.text) not in phrases][::every]
    grammar = tuple(tuple(phrase.split()) for phrase in sorted(phrases))
    recognizer = Recognizer.load(*rest[1:], decoding=DecoderOptions(grammar=grammar))

    def heard(utterance: Utterance) -> str:
        return recognizer.decode(recognizer.log_probs([read_audio(utterance.audio)])).text

    said = [(normalize(utterance.text), heard(utterance)) for utterance in inside]
    accepted = [text for utterance in outside if (text := heard(utterance))]
    figures = {
        "phrases": len(phrases),
        "inside": len(inside),
        "right": sum(text == phrase for phrase, text in said),
        "refused": sum(not text for _, text in said),
        "another_phrase": sum(text not in ("", phrase) for phrase, text in said),
        "outside": len(outside),
        "not_refused": len(accepted),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
