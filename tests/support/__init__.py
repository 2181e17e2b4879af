"""What tests of several folders share: the machine, repositories, a terminal."""
