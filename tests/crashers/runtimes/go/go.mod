module stillframe.dev/crashers

go 1.19
