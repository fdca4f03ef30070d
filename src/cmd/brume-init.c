#include "guest/guest.h"

int main(int argc, char **argv)
{
	return guest_main(argc, argv);
}
