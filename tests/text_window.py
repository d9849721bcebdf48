"""A window with one text field; a file always holds what is in it. Run as: text_window.py FILE [TEXT].

The file appears when the window has the focus. It is the other end of the tests of typing.
"""

import os
import sys
import tkinter
from pathlib import Path

window = tkinter.Tk()
field = tkinter.Text(window)
field.pack()
field.insert("1.0", "".join(sys.argv[2:]))
target = Path(sys.argv[1])


def save(event: object = None) -> None:
    temporary = target.with_suffix(".new")
    temporary.write_text(field.get("1.0", "end-1c"), encoding="utf-8")
    os.replace(temporary, target)


def changed(event: object) -> None:
    field.edit_modified(False)
    save()


field.bind("<<Modified>>", changed)
field.bind("<FocusIn>", save)
window.update()
field.focus_force()
window.mainloop()
