"""Where bytes lie: mounted volumes, and object stores through fsspec. What the bytes mean is no business of this package.

uri       which file system a URI names
problems  what a driver's error means for the user
file      a file to read from, anywhere in it
folder    a folder to write to, so that nobody ever reads half of what is written
"""
