import sys

from shared_words import WORD

print("child", WORD, sys.argv[1:])
