"""python -m plumbline: the command line where no `plumbline` script is installed, as in the images."""

from plumbline.cli import main

main()
