SELECT * FROM tallykeeper.whole_first_sales_definition;
